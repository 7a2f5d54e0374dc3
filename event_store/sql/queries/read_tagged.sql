-- read_tagged: the events that carry each of some tags, and the head that they were read at, as of one moment.
--
--   $1 partition   $2 tenants, $3 tags, $4 positions after which they begin
--
-- Returns  the tag's number, from 1, the head (null: nothing was ever appended), the last archived position (null: none)
--          and an event a row, by tag and position; one row without an event when there is none
-- Caller   event_store/postgres.py, PostgresLog.read_tagged

SELECT $1::integer, e.position, e.tenant, e.stream, e.version, e.id, e.type, e.schema_version, e.data, e.metadata,
       e.recorded_at, h.last_position, h.hash, e.number,
       (SELECT a.last_position FROM {namespace}.archive_ends AS a WHERE a.partition = $1)
  FROM (SELECT) AS one
  LEFT JOIN LATERAL (
       SELECT c.last_position, c.hash FROM {namespace}.commits AS c
        WHERE c.partition = $1 ORDER BY c.last_position DESC LIMIT 1) AS h ON true
  LEFT JOIN {namespace}.read_tagged_v1($1, $2, $3, $4) AS e ON true
 ORDER BY e.number, e.position
