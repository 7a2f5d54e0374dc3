-- has_guards: whether the layout has come as far as guards.
--
-- Caller   event_store/migrate.py, migrate

SELECT to_regprocedure('{namespace}.guard_every_table_v1()') IS NOT NULL
