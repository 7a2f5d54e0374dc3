-- status_drift: when the live rows of each projection were last compared with their fold.
--
-- Caller   event_store/waits.py

SELECT d.projection, d.generation, min(d.checked_at) AS since, sum(d.rows)::bigint AS rows, sum(d.differed)::bigint AS differed
  FROM {namespace}.drift_checks AS d GROUP BY d.projection, d.generation
