-- destroy_subject_keys: see functions/destroy_subject_keys_v1.sql.
--
-- Caller   event_store/subject_keys.py, SubjectKeys.destroy

SELECT {namespace}.destroy_subject_keys_v1($1, $2, $3, $4, $5, $6)
