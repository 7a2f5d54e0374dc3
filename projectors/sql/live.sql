-- live: which generation of each projection is live, and how it is kept.
--
-- Caller   projectors/generations.py, Generations.live

SELECT name, generation, version, previous, paused FROM {namespace}.projections ORDER BY name
