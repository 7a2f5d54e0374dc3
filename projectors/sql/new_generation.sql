-- new_generation: take the next number for a projection.
--
--   $1 projection   $2 version   $3 the schema's name without its number
--
-- Caller   projectors/generations.py, Generations.begin

INSERT INTO {namespace}.generations (projection, generation, version, state, schema)
SELECT $1::text, n.number, $2, 'building', $3::text || '_' || n.number
  FROM (SELECT coalesce(max(g.generation), 0) + 1 AS number
          FROM {namespace}.generations AS g WHERE g.projection = $1) AS n
RETURNING generation, schema
