-- moved_keys: what keys were bound to before their tenants came to a partition.
--
--   $1 partition   $2 numbers, $3 tenants, $4 subjects, $5 keys
--
-- Returns  for each that was bound its number and the whole first answer; written_in is the partition that it is of
-- Caller   event_store/past.py, Past.answers
--
-- The tenants are named first, as in read_stream.

SELECT u.number, k.*
  FROM set_config('{namespace}.tenants', $3::text[]::text, true) AS scope (tenants)
 CROSS JOIN LATERAL unnest($2::integer[], $3::text[], $4::text[], $5::text[]) AS u (number, tenant, subject, key)
 CROSS JOIN LATERAL (
       SELECT m.fingerprint, m.written_in, m.position, m.events, m.stream, m.version, m.commit_position, m.commit_hash
         FROM {namespace}.moved_keys AS m
        WHERE m.partition = $1 AND m.tenant = u.tenant AND m.subject = u.subject AND m.key = u.key
          AND scope.tenants IS NOT NULL
       OFFSET 0) AS k
