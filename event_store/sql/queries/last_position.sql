-- last_position: the highest position for which there is an event, whether or not a commit record knows of it.
--
--   $1 partition
--
-- Caller   event_store/postgres.py, PostgresLog.last_position

SELECT coalesce(max(e.position), 0) FROM {namespace}.{events} AS e WHERE e.partition = $1
