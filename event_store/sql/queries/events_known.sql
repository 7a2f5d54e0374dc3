-- events_known: which of some ids are those of events of the log.
--
--   $1 partition   $2 ids
--
-- Caller   event_store/recovery.py
--
-- There is no index on ids; it is asked once in a recovery, and only where timers were set shortly before the loss.

SELECT e.id::text FROM {namespace}.{events} AS e WHERE e.partition = $1 AND e.id = ANY ($2::uuid[])
