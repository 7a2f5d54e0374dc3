-- lock_generation: hold a generation in some partitions until the transaction ends, and have whoever folds it read anew.
--
--   $1 projection   $2 generation   $3 partitions
--
-- Returns  where it stands in each; no row where it has not begun there
-- Caller   projectors/scrub.py
--
-- With the revision raised, nobody commits what was folded before this: neither rows that are remembered nor events
-- that were read while they could still be.

WITH held AS MATERIALIZED (
    SELECT partition FROM {namespace}.checkpoints
     WHERE kind = 'projection' AND consumer = $1 AND generation = $2 AND partition = ANY ($3::integer[])
     ORDER BY partition FOR UPDATE
)
UPDATE {namespace}.checkpoints AS c SET revision = c.revision + 1
  FROM held
 WHERE c.kind = 'projection' AND c.consumer = $1 AND c.generation = $2 AND c.partition = held.partition
RETURNING c.partition, c.position, c.commit_hash
