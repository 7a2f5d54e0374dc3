-- lock_checkpoint: hold a generation in one partition until the transaction ends.
--
--   $1 projection   $2 generation   $3 partition
--
-- Caller   projectors/mend.py, Mender.mend

SELECT position, commit_hash FROM {namespace}.checkpoints
 WHERE kind = 'projection' AND consumer = $1 AND generation = $2 AND partition = $3 FOR UPDATE
