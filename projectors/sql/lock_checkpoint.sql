-- lock_checkpoint: hold a generation in some partitions until the transaction ends.
--
--   $1 projection   $2 generation   $3 partitions
--
-- Caller   projectors/mend.py, Mender.mend

SELECT partition, position, commit_hash FROM {namespace}.checkpoints
 WHERE kind = 'projection' AND consumer = $1 AND generation = $2 AND partition = ANY ($3::integer[])
 ORDER BY partition FOR UPDATE
