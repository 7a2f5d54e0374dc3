-- head: a partition's last commit.
--
--   $1 partition
--
-- Caller   event_store/postgres.py, PostgresLog.head

SELECT c.partition, c.first_position, c.last_position, c.recorded_at, c.hash, c.previous_hash
  FROM {namespace}.{commits} AS c
 WHERE c.partition = $1
 ORDER BY c.last_position DESC LIMIT 1
