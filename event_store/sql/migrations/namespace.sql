-- namespace: the schema that everything of one system on this server lives in, and who has changed its layout.

CREATE SCHEMA IF NOT EXISTS {namespace};

CREATE TABLE IF NOT EXISTS {namespace}.migration_runs (
    run_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    revision_before text,
    revision_after  text,
    actor           text        NOT NULL,
    reason          text
);
