-- lock_generation: hold a generation in one partition until the transaction ends, and have whoever folds it read anew.
--
--   $1 projection   $2 generation   $3 partition
--
-- Returns  where it stands; no row where it has not begun there
-- Caller   projectors/scrub.py
--
-- With the revision raised, nobody commits what was folded before this: neither rows that are remembered nor events
-- that were read while they could still be.

UPDATE {namespace}.checkpoints SET revision = revision + 1
 WHERE kind = 'projection' AND consumer = $1 AND generation = $2 AND partition = $3
RETURNING position, commit_hash
