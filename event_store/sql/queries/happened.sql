-- happened: which of some items any event of a partition matches: all of these tags, and any of these types.
--
--   $1 partition   $2 numbers, $3 tenants, $4 tags and $5 types, each joined by U+001E (no types: any)
--
-- Returns  the numbers of those that are matched
-- Caller   event_store/past.py, Past.answers
--
-- The tenants are named first, as in read_stream. The search is that of append_batch_v2.

SELECT DISTINCT u.number
  FROM set_config('{namespace}.tenants', $3::text[]::text, true) AS scope (tenants)
 CROSS JOIN LATERAL unnest($2::integer[], $3::text[], $4::text[], $5::text[]) AS u (number, tenant, tags, types)
 CROSS JOIN LATERAL (
       SELECT FROM {namespace}.tags AS t
        WHERE t.partition = $1 AND t.tenant = u.tenant AND t.tag = split_part(u.tags, U&'\001E', 1)
          AND (u.types = '' OR t.type = ANY (string_to_array(u.types, U&'\001E')))
          AND NOT EXISTS (
              SELECT FROM unnest(string_to_array(u.tags, U&'\001E')) AS o (tag)
               WHERE (SELECT true FROM {namespace}.tags AS a
                       WHERE a.partition = $1 AND a.tenant = t.tenant AND a.tag = o.tag
                         AND a.position = t.position) IS NULL)
          AND scope.tenants IS NOT NULL
        LIMIT 1) AS t
