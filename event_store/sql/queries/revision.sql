-- revision: the step that the layout is at.
--
-- Caller   event_store/migrate.py

SELECT r.version_num FROM {namespace}.schema_revision AS r
