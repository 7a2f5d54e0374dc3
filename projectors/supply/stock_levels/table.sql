-- stock-levels: one row for each site and item, and one for each lot there.
--
--   available    units that may be reserved: what `below` compares
--   lot          of lots: empty for units without one
--   expires_on   the lot's last day; null where it has none
--
-- Read by  query_api/supply/stock_levels.py and lots.py, in order of their keys
--
-- Every batch writes rows anew, so pages keep room for that, and dead rows are cleared early.

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    site_id     text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    available   bigint NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, site_id, item_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX rows_by_item ON {schema}.rows (tenant, item_id, site_id);
CREATE INDEX rows_by_available ON {schema}.rows (tenant, available);

CREATE TABLE {schema}.lots (
    tenant      text COLLATE "C" NOT NULL,
    site_id     text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    lot         text COLLATE "C" NOT NULL,
    expires_on  date,
    on_hand     bigint NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT lots_key PRIMARY KEY (tenant, site_id, item_id, lot)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX lots_by_item ON {schema}.lots (tenant, item_id, site_id, lot);
CREATE INDEX lots_by_expiry ON {schema}.lots (tenant, expires_on) WHERE on_hand > 0;
