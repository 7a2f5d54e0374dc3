-- scrub_parked: take what errors say away from parked events of some streams, since an error may quote a value.
--
--   $1 tenant   $2 streams   $3 what takes its place
--
-- Returns  one row per event whose error was taken away
-- Caller   event_store/erasures.py, scrub_errors

UPDATE {namespace}.parked_events SET error = $3
 WHERE tenant = $1 AND stream = ANY ($2::text[]) AND error IS NOT NULL AND error <> $3
RETURNING id
