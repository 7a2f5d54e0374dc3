-- forget_side: drop what building into a side schema has left in the bookkeeping. Its generation is number 0.
--
--   $1 the build's name, schema/projection   $2 projection
--
-- Caller   projectors/side_builds.py, replay_into

WITH tenants AS (
    DELETE FROM {namespace}.applied_by_tenant WHERE projection IN ($1, $2) AND generation = 0
), parked AS (
    DELETE FROM {namespace}.parked_events WHERE kind = 'projection' AND consumer = $2 AND generation = 0
)
DELETE FROM {namespace}.checkpoints WHERE kind = 'side' AND consumer = $1
