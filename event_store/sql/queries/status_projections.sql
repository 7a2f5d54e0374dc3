-- status_projections: every generation of every projection that is live or being built, and how far it is.
--
-- Returns  one row per generation and partition; partition null where it has none yet
-- Caller   event_store/status.py

SELECT g.projection AS name, g.generation, g.version, g.state, p.paused, p.generation AS live,
       c.partition, c.position, c.waiting_for
  FROM {namespace}.generations AS g
  LEFT JOIN {namespace}.projections AS p ON p.name = g.projection
  LEFT JOIN {namespace}.checkpoints AS c
    ON c.kind = 'projection' AND c.consumer = g.projection AND c.generation = g.generation
 WHERE g.state IN ('live', 'building')
 ORDER BY g.projection, g.generation, c.partition
