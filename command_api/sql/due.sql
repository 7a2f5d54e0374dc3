-- due: timers that are to be fired now.
--
--   $1 partition   $2 workflow   $3 the time   $4 whether the workflow has taken up everything before that time
--   $5 how many at most
--
-- Returns  the scheduled commands, those that are due first before others
-- Caller   command_api/scheduled.py, ScheduledCommands.due
--
-- A timer waits until everything that was recorded before its time has been taken up: the event that would have
-- forgotten it may be among that, and no backlog of ours may make a timer fire.

SELECT s.tenant, s.key, s.due_at, s.attempts, s.command, s.fields, s.idempotency_key, s.causation_id,
       s.correlation_id, s.traceparent
  FROM {namespace}.scheduled_commands AS s
 WHERE s.partition = $1 AND s.workflow = $2 AND s.try_at <= $3::timestamptz
   AND ($4::boolean OR s.due_at <= (
        SELECT c.recorded_at FROM {namespace}.checkpoints AS c
         WHERE c.kind = 'workflow' AND c.consumer = $2 AND c.generation = 0 AND c.partition = $1))
 ORDER BY s.try_at
 LIMIT $5::integer
