-- make_subject_keys: see functions/make_subject_keys_v1.sql.
--
-- Caller   event_store/subject_keys.py, SubjectKeys.make

SELECT epoch, tenant, subject, generation, master, wrapped
  FROM {namespace}.make_subject_keys_v1($1::text[], $2::bytea[], $3::text[], $4::bytea[])
