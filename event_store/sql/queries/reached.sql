-- reached: how far a consumer is in a partition.
--
--   $1 kind   $2 consumer   $3 generation   $4 partition
--
-- Caller   event_store/checkpoints.py, Checkpoints.has_passed

SELECT c.position FROM {namespace}.checkpoints AS c
 WHERE c.kind = $1 AND c.consumer = $2 AND c.generation = $3 AND c.partition = $4
