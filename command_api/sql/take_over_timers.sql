-- take_over_timers: take up the timers of a tenant that arrives in a partition.
--
--   $1 partition   $2 workflow   $3 tenant
--
-- Caller   command_api/scheduled.py, ScheduledCommands.take_over

UPDATE {namespace}.scheduled_commands AS s SET partition = $1
 WHERE s.partition = -1 - $1 AND s.workflow = $2 AND s.tenant = $3
