-- forget_generation: drop what is kept about a generation beside its tables.
--
--   $1 projection   $2 generation
--
-- Caller   projectors/generations.py, Generations.drop

WITH marks AS (
    DELETE FROM {namespace}.checkpoints WHERE kind = 'projection' AND consumer = $1 AND generation = $2
), tenants AS (
    DELETE FROM {namespace}.applied_by_tenant WHERE projection = $1 AND generation = $2
), parked AS (
    DELETE FROM {namespace}.parked_events WHERE kind = 'projection' AND consumer = $1 AND generation = $2
), former AS (
    UPDATE {namespace}.projections SET previous = NULL WHERE name = $1 AND previous = $2
)
UPDATE {namespace}.generations SET state = 'dropped', ended_at = now() WHERE projection = $1 AND generation = $2
