-- move_versions: of some of a tenant's streams in a partition their versions, and the first that the partition itself has.
--
--   $1 partition   $2 tenant   $3 streams
--
-- Returns  first_position is 0 for one that came along from elsewhere; first_version null where it has no events here,
--          or none outside of the archive
-- Caller   event_store/lost_moves.py

SELECT s.stream, s.version, s.first_position, e.version AS first_version
  FROM set_config('{namespace}.tenants', ARRAY[$2::text]::text, true) AS scope (tenants)
 CROSS JOIN LATERAL unnest($3::text[]) AS t (stream)
 CROSS JOIN LATERAL (
       SELECT p.stream, p.version, p.first_position FROM {namespace}.streams AS p
        WHERE p.partition = $1 AND p.tenant = $2 AND p.stream = t.stream AND scope.tenants IS NOT NULL
       OFFSET 0) AS s
  LEFT JOIN LATERAL (
       SELECT o.version FROM {namespace}.{events} AS o
        WHERE o.tenant = $2 AND o.stream = t.stream AND scope.tenants IS NOT NULL
        ORDER BY o.version LIMIT 1) AS e ON true
