-- erased_since: the epoch, and which keys have been destroyed since an earlier one.
--
--   $1 the epoch that was seen last; null: only the epoch is wanted
--
-- Returns  one row at least: its subject is null where none was destroyed
-- Caller   event_store/subject_keys.py, SubjectKeys.erased_since

SELECT e.epoch, k.tenant_name AS tenant, k.subject, k.generation
  FROM {namespace}.key_epoch AS e
  LEFT JOIN {namespace}.subject_keys AS k ON k.erased_epoch > $1 AND k.erased_epoch <= e.epoch
