-- checkpoints_of_log: where everything stands that follows the log.
--
-- Caller   event_store/recovery.py

SELECT c.kind, c.consumer, c.generation, c.partition, c.position, c.commit_hash
  FROM {namespace}.checkpoints AS c
 WHERE c.position > 0
 ORDER BY c.kind, c.consumer, c.generation, c.partition
