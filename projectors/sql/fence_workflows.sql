-- fence_workflows: have the workflows of a partition read anew; what they have in hand is not committed.
--
--   $1 partitions
--
-- Returns  one row per workflow
-- Caller   projectors/scrub.py

UPDATE {namespace}.checkpoints SET revision = revision + 1
 WHERE kind = 'workflow' AND partition = ANY ($1::integer[])
RETURNING consumer
