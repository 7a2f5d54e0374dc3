-- archived_tagged: where the archived events are that carry each of some tags.
--
--   $1 partition   $2 tenants, $3 tags, $4 positions after which they begin   $5 the last archived position
--
-- Returns  the tag's number, from 1, and a position a row
-- Caller   event_store/archived_part.py, ArchivedPart.add_tagged
--
-- The tenants are named first, as in read_stream.

SELECT u.number, t.position
  FROM set_config('{namespace}.tenants', $2::text[]::text, true) AS scope (tenants)
 CROSS JOIN LATERAL unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS u (tenant, tag, after, number)
 CROSS JOIN LATERAL (
       SELECT g.position FROM {namespace}.tags AS g
        WHERE g.partition = $1 AND g.tenant = u.tenant AND g.tag = u.tag AND g.position > u.after AND g.position <= $5
          AND scope.tenants IS NOT NULL
       OFFSET 0) AS t
 ORDER BY t.position
