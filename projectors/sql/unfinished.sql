-- unfinished: a generation that a build left behind and that can be gone on with.
--
--   $1 projection   $2 version
--
-- Caller   projectors/generations.py, Generations.begin

SELECT generation, schema FROM {namespace}.generations
 WHERE projection = $1 AND version = $2 AND state = 'building'
 ORDER BY generation DESC LIMIT 1
