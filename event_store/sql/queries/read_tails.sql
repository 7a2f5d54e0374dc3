-- read_tails: the ends of many streams, and the head that they were read at, as of one moment.
--
--   $1 partition   $2 tenants, $3 streams, $4 versions after which they begin
--
-- Returns  the head (null: nothing was ever appended), the last archived position (null: none) and an event a row, in
--          no particular order; one row without an event when there is none
-- Caller   event_store/postgres.py, PostgresLog.read_tails

SELECT $1::integer, e.position, e.tenant, e.stream, e.version, e.id, e.type, e.schema_version, e.data, e.metadata,
       e.recorded_at, h.last_position, h.hash,
       (SELECT a.last_position FROM {namespace}.archive_ends AS a WHERE a.partition = $1)
  FROM (SELECT) AS one
  LEFT JOIN LATERAL (
       SELECT c.last_position, c.hash FROM {namespace}.commits AS c
        WHERE c.partition = $1 ORDER BY c.last_position DESC LIMIT 1) AS h ON true
  LEFT JOIN {namespace}.read_tails_v1($1, $2, $3, $4) AS e ON true
