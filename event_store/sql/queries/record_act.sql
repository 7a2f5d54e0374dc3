-- record_act: keep who did what, and why.
--
--   $1 actor   $2 act   $3 subject   $4 reason
--
-- Caller   event_store/subject_keys.py, SubjectKeys.record

INSERT INTO {namespace}.operator_acts (actor, act, subject, reason) VALUES ($1, $2, $3, $4)
