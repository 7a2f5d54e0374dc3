-- forget_states: call forget_states_v1.
--
--   $1 partition   $2 tenant   $3 streams
--
-- Returns  how many states were deleted
-- Caller   event_store/postgres.py, PostgresLog.forget_states

SELECT {namespace}.forget_states_v1($1, $2, $3)
