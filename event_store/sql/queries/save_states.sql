-- save_states: call save_states_v1. What it writes can be made again, so no commit waits for the disk.
--
-- Returns  how many states were kept
-- Caller   event_store/postgres.py, PostgresLog.save_states

SELECT {namespace}.save_states_v1($1, $2, $3, $4, $5, $6, $7, $8, $9), set_config('synchronous_commit', 'off', true)
