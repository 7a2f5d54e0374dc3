-- read_range: the events of a range of positions, in order.
--
--   $1 partition   $2 first and $3 last position, both included   $4 the tenants whose events, or null: all that the
--   role may see, which is nothing for one that does not read whole partitions
--
-- Returns  the events in the order of RecordedEvent's fields
-- Caller   event_store/postgres.py, PostgresLog.read_range
--
-- The tenants are named first, as in read_stream.

SELECT part.*
  FROM set_config('{namespace}.tenants', coalesce($4::text[]::text, ''), true) AS scope (tenants)
 CROSS JOIN LATERAL (
       SELECT e.partition, e.position, e.tenant, e.stream, e.version, e.id::text, e.type, e.schema_version, e.data,
              e.metadata, e.recorded_at
         FROM {namespace}.{events} AS e
        WHERE e.partition = $1 AND e.position BETWEEN $2 AND $3 AND ($4::text[] IS NULL OR e.tenant = ANY ($4))
          AND scope.tenants IS NOT NULL
        ORDER BY e.position
       OFFSET 0) AS part
