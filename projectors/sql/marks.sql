-- marks: where a generation stands, by partition.
--
--   $1 projection   $2 generation
--
-- Caller   projectors/build.py, Build.run; projectors/verify.py

SELECT partition, position, commit_hash FROM {namespace}.checkpoints
 WHERE kind = 'projection' AND consumer = $1 AND generation = $2
