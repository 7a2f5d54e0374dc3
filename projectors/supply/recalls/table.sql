-- recalls: one row for each recall.
--
-- Read by  query_api/supply/recalls.py, in order of id

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    recall_id   text COLLATE "C" NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, recall_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
