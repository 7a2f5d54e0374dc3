-- count_subject_keys: how many living keys each master key has wrapped.
--
-- Caller   event_store/subject_keys.py, SubjectKeys.by_master

SELECT master, count(*) AS keys FROM {namespace}.subject_keys WHERE wrapped IS NOT NULL GROUP BY master ORDER BY master
