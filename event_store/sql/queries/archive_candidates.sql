-- archive_candidates: the first ranges of a partition that are full and not yet archived.
--
--   $1 partition   $2 how many at most
--
-- Returns  one row per range, in order: its positions, when its last event was recorded, its events' bytes (about: those
--          of the commits that end in it), and how many positions lie after it
-- Caller   event_store/archive.py
--
-- A range is full when the head lies beyond it. The first range begins with position 1.

SELECT n.range, greatest(n.range * p.range_events, 1) AS first_position,
       (n.range + 1) * p.range_events - 1 AS last_position, c.recorded_at,
       (SELECT coalesce(sum(o.octets), 0)::bigint FROM {namespace}.commits AS o
         WHERE o.partition = $1 AND o.last_position BETWEEN n.range * p.range_events AND (n.range + 1) * p.range_events - 1)
       AS octets,
       h.last_position - ((n.range + 1) * p.range_events - 1) AS positions_after
  FROM {namespace}.partitions AS p
 CROSS JOIN LATERAL (
       SELECT l.last_position FROM {namespace}.commits AS l
        WHERE l.partition = $1 ORDER BY l.last_position DESC LIMIT 1) AS h
 CROSS JOIN LATERAL (
       SELECT coalesce(max(a.range) + 1, 0) AS first FROM {namespace}.archived_ranges AS a WHERE a.partition = $1) AS a
 CROSS JOIN LATERAL generate_series(
       a.first, least(a.first + $2::bigint, h.last_position / p.range_events) - 1) AS n (range)
 CROSS JOIN LATERAL (
       SELECT l.recorded_at FROM {namespace}.commits AS l
        WHERE l.partition = $1 AND l.last_position >= (n.range + 1) * p.range_events - 1
        ORDER BY l.last_position LIMIT 1) AS c
 WHERE p.partition = $1
 ORDER BY n.range
