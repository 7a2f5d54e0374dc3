-- guard_every_table: guard what this migration has made.
--
-- Returns  how many tables were not guarded before
-- Caller   event_store/migrate.py, migrate

SELECT {namespace}.guard_every_table_v1()
