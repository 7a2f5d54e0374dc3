-- scrub_scheduled: take away what errors say of a tenant's scheduled commands that have personal fields.
--
--   $1 tenant   $2 the commands' names   $3 what takes its place
--
-- Returns  one row per command whose error was taken away
-- Caller   event_store/erasures.py, scrub_errors

UPDATE {namespace}.scheduled_commands SET last_error = $3
 WHERE tenant = $1 AND command = ANY ($2::text[]) AND last_error IS NOT NULL AND last_error <> $3
RETURNING key
