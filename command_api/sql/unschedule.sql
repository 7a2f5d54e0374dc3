-- unschedule: forget timers, where they are still there.
--
--   $1 partition   $2 workflow   $3 tenants, $4 keys
--
-- Caller   command_api/scheduled.py, write_timers, in the transaction that moves the checkpoint

DELETE FROM {namespace}.scheduled_commands AS s
 USING unnest($3::text[], $4::text[]) AS t (tenant, key)
 WHERE s.partition = $1 AND s.workflow = $2 AND s.tenant = t.tenant AND s.key = t.key
