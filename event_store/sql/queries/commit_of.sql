-- commit_of: the commit that a position belongs to; no row when it is still to come, or the beginning.
--
--   $1 partition   $2 position
--
-- Caller   event_store/postgres.py, PostgresLog.commit_of

SELECT c.partition, c.first_position, c.last_position, c.recorded_at, c.hash, c.previous_hash
  FROM {namespace}.{commits} AS c
 WHERE c.partition = $1 AND c.last_position >= $2 AND $2 > 0
 ORDER BY c.last_position LIMIT 1
