-- read_tags: the tags of the events of a range of positions, as they are stored.
--
--   $1 partition   $2 first and $3 last position, both included
--
-- Returns  position, tag, and the event's tenant and type as they stand beside it, in the order that is hashed
-- Caller   event_store/postgres_reading.py, PostgresReading.read_tags

SELECT t.position, t.tag, t.tenant, t.type
  FROM {namespace}.tags AS t
 WHERE t.partition = $1 AND t.position BETWEEN $2 AND $3
 ORDER BY t.position, t.tag
