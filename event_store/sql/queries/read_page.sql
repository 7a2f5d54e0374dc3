-- read_page: what follows a place in a partition's history, whole commits only.
--
--   $1 partition   $2 position and $3 hash of the commit that it follows   $4 events and $5 bytes at most
--
-- Returns  the events in the order of RecordedEvent's fields; at the last one of each commit, the commit too
-- Raises   ES002 and ES020, from page_end_v3
-- Caller   event_store/postgres.py, PostgresLog.read_page

WITH page AS MATERIALIZED (
    SELECT {namespace}.page_end_v3($1, $2, $3, $4, $5) AS last_position
)
SELECT e.partition, e.position, e.tenant, e.stream, e.version, e.id::text, e.type, e.schema_version, e.data,
       e.metadata, e.recorded_at, c.first_position, c.hash, c.previous_hash
  FROM {namespace}.{events} AS e
  -- The bounds are said of both, since a merge would else sort every commit that there is.
  LEFT JOIN {namespace}.{commits} AS c
         ON c.partition = e.partition AND c.last_position = e.position AND c.partition = $1
        AND c.last_position > $2 AND c.last_position <= (SELECT last_position FROM page)
 WHERE e.partition = $1 AND e.position > $2 AND e.position <= (SELECT last_position FROM page)
 ORDER BY e.position
