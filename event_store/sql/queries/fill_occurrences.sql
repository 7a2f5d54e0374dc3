-- fill_occurrences: call fill_occurrences_v1. What it writes can be made again, so no commit waits for the disk.
--
--   $1 partition   $2 events at most
--
-- Returns  how many events were looked at
-- Caller   event_store/postgres.py, PostgresLog.fill_occurrences

SELECT {namespace}.fill_occurrences_v1($1, $2), set_config('synchronous_commit', 'off', true)
