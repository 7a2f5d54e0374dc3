-- timers_since: the timers that were set since a time, with the events that are their cause.
--
--   $1 partition   $2 the time
--
-- Caller   event_store/recovery.py

SELECT s.workflow, s.tenant, s.key, s.causation_id
  FROM {namespace}.scheduled_commands AS s
 WHERE s.partition = $1 AND s.scheduled_at >= $2
