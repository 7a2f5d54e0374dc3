-- sites: one row for each site.
--
-- Read by  query_api/supply/sites.py, in order of id

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    site_id     text COLLATE "C" NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, site_id)
);
