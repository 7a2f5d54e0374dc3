-- orders: one row for each order, and one for each item that it has.
--
-- Read by  query_api/supply/orders.py
--
-- Each filter has an index in the default order: latest first, ties by id. Earliest first reads the same indexes
-- backwards and sorts the ties only. Version 2: an order's items have its time, too.

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    order_id    text COLLATE "C" NOT NULL,
    status      text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    site_id     text COLLATE "C" NOT NULL,
    ordered_at  timestamptz NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, order_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX rows_by_time ON {schema}.rows (tenant, ordered_at DESC, order_id);
CREATE INDEX rows_by_status ON {schema}.rows (tenant, status, ordered_at DESC, order_id);
CREATE INDEX rows_by_customer ON {schema}.rows (tenant, customer_id, ordered_at DESC, order_id);
CREATE INDEX rows_by_site ON {schema}.rows (tenant, site_id, ordered_at DESC, order_id);

CREATE TABLE {schema}.items (
    tenant      text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    order_id    text COLLATE "C" NOT NULL,
    ordered_at  timestamptz NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT items_key PRIMARY KEY (tenant, item_id, order_id)
);

CREATE INDEX items_by_time ON {schema}.items (tenant, item_id, ordered_at DESC, order_id);
