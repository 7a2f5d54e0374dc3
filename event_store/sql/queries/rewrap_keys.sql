-- rewrap_keys: put keys under another master key; what was destroyed meanwhile stays destroyed.
--
--   $1 tenants   $2 subjects   $3 generations   $4 former masters   $5 masters   $6 wrapped
--
-- Returns  one row per key that was rewrapped
-- Caller   event_store/subject_keys.py, SubjectKeys.rewrap

UPDATE {namespace}.subject_keys AS k
   SET master = w.master, wrapped = w.wrapped
  FROM unnest($1::text[], $2::bytea[], $3::integer[], $4::text[], $5::text[], $6::bytea[])
       AS w (tenant, subject, generation, former, master, wrapped)
 WHERE k.tenant_name = w.tenant AND k.subject = w.subject AND k.generation = w.generation
   AND k.wrapped IS NOT NULL AND k.master = w.former
RETURNING k.generation
