-- vacuum_subject_keys: take the former versions of rows out of the table's pages: destroyed keys stand in them.
--
-- Caller   event_store/erasures.py, Erasures.sweep

VACUUM {namespace}.subject_keys
