-- ensure_ranges: make the tables for a partition's next events.
--
--   $1 partition
--
-- Caller   event_store/postgres.py, PostgresLog.keep_house

SELECT {namespace}.ensure_ranges_v1($1)
