-- read_range: the events of a range of positions, in order.
--
--   $1 partition   $2 first and $3 last position, both included
--
-- Returns  the events in the order of RecordedEvent's fields
-- Caller   event_store/postgres.py, PostgresLog.read_range

SELECT e.partition, e.position, e.tenant, e.stream, e.version, e.id::text, e.type, e.schema_version, e.data,
       e.metadata, e.recorded_at
  FROM {namespace}.{events} AS e
 WHERE e.partition = $1 AND e.position BETWEEN $2 AND $3
 ORDER BY e.position
