-- erasures: erasures, oldest first.
--
--   $1 tenant, or null for all   $2 subject, or null for all   $3 whether those that have ended are wanted too
--
-- Caller   event_store/erasures.py, Erasures

SELECT tenant, subject, generation, erased_at, actor, reason, steps::text AS steps, ended_at,
       clock_timestamp() - erased_at AS age
  FROM {namespace}.erasures
 WHERE ($1::text IS NULL OR tenant = $1) AND ($2::bytea IS NULL OR subject = $2)
   AND ($3::boolean OR ended_at IS NULL)
 ORDER BY erased_at, generation
