-- live: which generation of each projection is live, how it is kept, and which life of the database it is.
--
-- Caller   projectors/generations.py, Generations.live

SELECT p.name, p.generation, p.version, p.previous, p.paused, {namespace}.era_v1() AS era
  FROM {namespace}.projections AS p ORDER BY p.name
