-- namespace: the schema that everything of one system on this server lives in.

CREATE SCHEMA IF NOT EXISTS {namespace};
