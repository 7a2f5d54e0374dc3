-- keys_to_rewrap: living keys that another master key than the current one has wrapped.
--
--   $1 the current master key   $2 how many, at most
--
-- Caller   event_store/subject_keys.py, SubjectKeys.wrapped_otherwise

SELECT tenant_name AS tenant, subject, generation, master, wrapped
  FROM {namespace}.subject_keys
 WHERE wrapped IS NOT NULL AND master <> $1
 LIMIT $2
