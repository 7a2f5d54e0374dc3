-- read_commits: commit records as they are stored, for the check of the chain.
--
--   $1 partition   $2 position after which they end   $3 how many at most
--
-- Caller   event_store/postgres.py, PostgresLog.read_commits

SELECT c.partition, c.first_position, c.last_position, c.recorded_at, c.hash, c.previous_hash, c.octets, c.marks
  FROM {namespace}.{commits} AS c
 WHERE c.partition = $1 AND c.last_position > $2
 ORDER BY c.last_position LIMIT $3
