-- lot-traces: one row for each lot, one for each of its movements, and one for each item that a recall holds.
--
--   at     of movements: microseconds when it was recorded, and the position in the log, in hexadecimal of one width, so
--          that text sorts as numbers; by its position alone a tenant that moved might have two of a lot in one place
--   doc    of holds: `lots`, those that the recall holds; null: all of the item's, also those still to come; and
--          `is_open`, whether the recall is; a closed one holds a lot until each of the lot's sites has released it
--
-- Read by  query_api/supply/lots.py: `traces` is the answer but for its movements

CREATE TABLE {schema}.rows (
    tenant      text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    lot         text COLLATE "C" NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, item_id, lot)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE {schema}.movements (
    tenant      text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    lot         text COLLATE "C" NOT NULL,
    at          text COLLATE "C" NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT movements_key PRIMARY KEY (tenant, item_id, lot, at)
);

CREATE TABLE {schema}.holds (
    tenant      text COLLATE "C" NOT NULL,
    item_id     text COLLATE "C" NOT NULL,
    recall_id   text COLLATE "C" NOT NULL,
    doc         bytea NOT NULL,
    position    bigint NOT NULL,
    commit_hash bytea NOT NULL,
    CONSTRAINT holds_key PRIMARY KEY (tenant, item_id, recall_id)
);

CREATE VIEW {schema}.traces AS
SELECT lot.tenant, lot.item_id, lot.lot,
       convert_to(
           (trace.body - 'released' || jsonb_build_object('on_hold', held.on_hold, 'recalls', held.recalls))::text, 'UTF8'
       ) AS doc
  FROM {schema}.rows AS lot
 CROSS JOIN LATERAL (
       SELECT convert_from(lot.doc, 'UTF8')::jsonb AS body
       ) AS trace
 CROSS JOIN LATERAL (
       SELECT coalesce(jsonb_agg(hold.recall_id ORDER BY hold.recall_id), '[]') AS recalls,
              coalesce(
                  bool_or(
                      (hold.body -> 'is_open')::boolean
                      OR NOT jsonb_path_query_array(trace.body, '$.stock[*].site_id')
                             <@ coalesce(trace.body -> 'released' -> hold.recall_id, '[]')
                  ), false
              ) AS on_hold
         FROM (
              SELECT recall_id, convert_from(doc, 'UTF8')::jsonb AS body
                FROM {schema}.holds
               WHERE tenant = lot.tenant AND item_id = lot.item_id
              ) AS hold
        WHERE hold.body -> 'lots' = 'null' OR hold.body -> 'lots' ? lot.lot
       ) AS held;
