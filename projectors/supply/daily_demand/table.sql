-- daily-demand: one row for each day, currency, site and item that was ordered; `item_id` is empty for all items; and
-- one for each quarter of an hour, currency and site.
--
--   quarter       its beginning in UTC, as ISO 8601 writes it
--   day           of the order in UTC, as ISO 8601 writes it, so that text sorts as dates
--   orders        how many orders of the day have the item
--   placed, net   amounts in minor units: as ordered, and without rejected, cancelled, short and returned units
--
-- Read by  query_api/supply/daily_demand.sql, top_items.sql and demand_series.sql

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    day         text COLLATE "C" NOT NULL,
    currency    text COLLATE "C" NOT NULL,
    site_id     text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    orders      bigint NOT NULL,
    units       numeric NOT NULL,
    placed      numeric NOT NULL,
    net         numeric NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, item_id, day, currency, site_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX rows_by_day ON {schema}.rows (tenant, day) WHERE item_id <> '';

CREATE TABLE {schema}.quarters (
    tenant      text COLLATE "C" NOT NULL,
    quarter     text COLLATE "C" NOT NULL,
    currency    text COLLATE "C" NOT NULL,
    site_id     text COLLATE "C" NOT NULL,
    orders      bigint NOT NULL,
    units       numeric NOT NULL,
    placed      numeric NOT NULL,
    net         numeric NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT quarters_key PRIMARY KEY (tenant, quarter, currency, site_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
