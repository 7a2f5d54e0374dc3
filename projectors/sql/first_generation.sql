-- first_generation: let a projection's first generation go live at once, empty as the log's beginning.
--
--   $1 projection   $2 generation   $3 version
--
-- Caller   projectors/generations.py, Generations.open_first

WITH made AS (
    INSERT INTO {namespace}.projections (name, generation, version) VALUES ($1, $2, $3)
)
UPDATE {namespace}.generations SET state = 'live', ended_at = now() WHERE projection = $1 AND generation = $2
