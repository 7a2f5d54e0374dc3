-- find_subject_keys: certain generations of persons' keys, destroyed ones too (their `wrapped` is null).
--
--   $1 tenants   $2 subjects   $3 generations
--
-- Caller   event_store/subject_keys.py, SubjectKeys.find

SELECT k.tenant_name AS tenant, k.subject, k.generation, k.master, k.wrapped
  FROM unnest($1::text[], $2::bytea[], $3::integer[]) AS w (tenant, subject, generation)
  JOIN {namespace}.subject_keys AS k
    ON k.tenant_name = w.tenant AND k.subject = w.subject AND k.generation = w.generation
