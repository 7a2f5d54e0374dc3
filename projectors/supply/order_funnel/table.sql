-- order-funnel: one row for each tenant, and one for each status that orders of the tenant have.
--
-- Read by  query_api/supply/order_funnel.py and by_status.py

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE {schema}.statuses (
    tenant      text COLLATE "C" NOT NULL,
    status      text COLLATE "C" NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT statuses_key PRIMARY KEY (tenant, status)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
