-- park: set events aside, each at the row that it could not be folded into.
--
--   $1 projection   $2 generation   $3 partition
--   $4 tenants   $5 tables   $6 keys as JSON lists   $7 positions   $8 streams   $9 event ids   $10 types
--   $11 schema versions   $12 errors, null where an event only waits behind another
--
-- Caller   projectors/writing.py, park

INSERT INTO {namespace}.parked_events (
    kind, consumer, generation, partition, tenant, table_name, key, position, stream, event_id, event_type,
    schema_version, error)
SELECT 'projection', $1, $2, $3, p.*
  FROM unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::integer[],
              $12::text[]) AS p
ON CONFLICT ON CONSTRAINT parked_events_place DO NOTHING
