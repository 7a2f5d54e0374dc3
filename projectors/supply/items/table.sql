-- items: one row for each item.
--
--   name   what top-items calls it
--
-- Read by  query_api/supply/items.py, in order of id; query_api/supply/top_items.sql

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    name        text NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, item_id)
);
