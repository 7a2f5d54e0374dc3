-- status_projections: the live generation of each projection, and the one that is being built, if any.
--
-- Caller   event_store/status.py

SELECT p.name, p.version, p.generation, p.paused, b.generation AS building, b.version AS building_version,
       b.started_at AS building_since
  FROM {namespace}.projections AS p
  LEFT JOIN LATERAL (
       SELECT g.generation, g.version, g.started_at FROM {namespace}.generations AS g
        WHERE g.projection = p.name AND g.state = 'building' ORDER BY g.generation DESC LIMIT 1) AS b ON true
 ORDER BY p.name
