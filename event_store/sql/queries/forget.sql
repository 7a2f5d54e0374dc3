-- forget: drop forbidden calls that are older than anybody may rely on, and name the tables of keys that are.
--
--   $1 partition   $2 how long both are kept
--
-- Returns  day              the table of a day's keys
--          is_attached      whether it is still a part of the partition's
--          is_detaching     whether that has begun to end, and was interrupted
-- Caller   event_store/old_keys.py

WITH calls AS (
    DELETE FROM {namespace}.void_calls AS v WHERE v.partition = $1 AND v.voided_at < now() - $2::interval
)
SELECT t.relname AS day, i.inhparent IS NOT NULL AS is_attached, coalesce(i.inhdetachpending, false) AS is_detaching
  FROM pg_class AS t
  LEFT JOIN pg_inherits AS i ON i.inhrelid = t.oid
 WHERE t.relnamespace = '{namespace}'::regnamespace AND t.relkind = 'r'
   AND t.relname ~ format('^idempotency_keys_p%s_d[0-9]{8}$', $1::integer)
   AND (to_date(right(t.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' <= now() - $2::interval
 ORDER BY t.relname
