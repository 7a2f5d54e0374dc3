-- read_stream: the next part of one stream, oldest first.
--
--   $1 partition   $2 tenant   $3 stream   $4 version after which it begins, $5 version up to which it goes
--   $6 events and $7 bytes at most (one is always in it)
--   $8 position and $9 time up to which, $10 time since which it goes, or null
--
-- Returns  the events in the order of RecordedEvent's fields, and the last archived position (null: none); one row
--          without an event when there is none
-- Caller   event_store/postgres_reading.py, PostgresReading.read_stream
--
-- What bounds mean in versions is looked up once, before the scan that then goes by the stream's own index alone.
--
-- The tenant is named first, and nothing is read before that: the rest depends on it (LATERAL, and the fence). What it
-- depends on is one row, so its order is the answer's; sorting again could take to the disk.

SELECT part.*
  FROM set_config('{namespace}.tenants', ARRAY[$2::text]::text, true) AS scope (tenants)
 CROSS JOIN LATERAL (
       SELECT n.partition, n.position, n.tenant, n.stream, n.version, n.id::text, n.type, n.schema_version, n.data,
              n.metadata, n.recorded_at, a.last_position
         FROM (SELECT max(l.last_position) AS last_position FROM {namespace}.archive_ends AS l
                WHERE l.partition = $1) AS a
         LEFT JOIN (
               SELECT e.*,
                      sum(octet_length(e.data)::bigint + octet_length(e.metadata)) OVER (ORDER BY e.version) AS octets,
                      row_number() OVER (ORDER BY e.version) AS number
                 FROM (SELECT e.* FROM {namespace}.{events} AS e
                        WHERE e.partition = $1 AND e.tenant = $2 AND e.stream = $3
                          AND e.version > greatest($4::bigint, (
                              SELECT {namespace}.stream_version_v2($1, $2, $3, NULL, NULL, $10)
                               WHERE $10::timestamptz IS NOT NULL))
                          AND e.version <= least($5::bigint, (
                              SELECT {namespace}.stream_version_v2($1, $2, $3, $8, $9, NULL)
                               WHERE $8::bigint IS NOT NULL OR $9::timestamptz IS NOT NULL))
                        ORDER BY e.version LIMIT $6) AS e) AS n
           ON n.octets <= $7::bigint OR n.number = 1
        WHERE scope.tenants IS NOT NULL
        ORDER BY n.version
       OFFSET 0) AS part
