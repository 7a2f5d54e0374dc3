-- hold: lock a generation's checkpoints, so that it stands still until the transaction ends.
--
--   $1 projection   $2 generation
--
-- Returns  where it stands, by partition
-- Caller   projectors/build.py, Build.swap and Build.compare

SELECT partition, position FROM {namespace}.checkpoints
 WHERE kind = 'projection' AND consumer = $1 AND generation = $2
 ORDER BY partition FOR UPDATE
