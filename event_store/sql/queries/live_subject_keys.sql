-- live_subject_keys: the living keys of persons, and the epoch as it is beside them.
--
--   $1 tenants   $2 subjects
--
-- Returns  one row at least: its subject is null where nobody has a key
-- Caller   event_store/subject_keys.py, SubjectKeys.living

SELECT e.epoch, k.tenant_name AS tenant, k.subject, k.generation, k.master, k.wrapped
  FROM {namespace}.key_epoch AS e
  LEFT JOIN (
       unnest($1::text[], $2::bytea[]) AS w (tenant, subject)
       JOIN {namespace}.subject_keys AS k
         ON k.tenant_name = w.tenant AND k.subject = w.subject AND k.wrapped IS NOT NULL
       ) ON true
