-- stream_places: where some streams of a partition begin; streams that do not exist are left out.
--
--   $1 partition   $2 tenants, $3 streams
--
-- Caller   event_store/archived_part.py, for streams that may have archived events
--
-- The tenants are named first, as in read_stream.

SELECT s.tenant, s.stream, s.version, s.first_position
  FROM set_config('{namespace}.tenants', $2::text[]::text, true) AS scope (tenants)
 CROSS JOIN LATERAL unnest($2::text[], $3::text[]) AS t (tenant, stream)
 CROSS JOIN LATERAL (
       SELECT p.tenant, p.stream, p.version, p.first_position FROM {namespace}.streams AS p
        WHERE p.partition = $1 AND p.tenant = t.tenant AND p.stream = t.stream AND scope.tenants IS NOT NULL
       OFFSET 0) AS s
