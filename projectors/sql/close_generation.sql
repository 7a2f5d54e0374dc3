-- close_generation: say that a build is not to go live, and why.
--
--   $1 projection   $2 generation   $3 why
--
-- Caller   projectors/generations.py, Generations.refuse

UPDATE {namespace}.generations SET state = 'refused', note = $3, ended_at = now()
 WHERE projection = $1 AND generation = $2 AND state = 'building'
