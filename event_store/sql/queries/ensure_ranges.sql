-- ensure_ranges: make the tables for a partition's next events and keys.
--
--   $1 partition
--
-- Caller   event_store/postgres.py, PostgresLog.keep_house

SELECT {namespace}.ensure_ranges_v2($1) + {namespace}.ensure_key_days_v2($1)
