-- fired: forget timers that have done their work; one that was set anew meanwhile stays.
--
--   $1 partition   $2 workflow   $3 tenants, $4 keys, $5 idempotency keys
--
-- Caller   command_api/scheduled.py, ScheduledCommands.fired

DELETE FROM {namespace}.scheduled_commands AS s
 USING unnest($3::text[], $4::text[], $5::text[]) AS t (tenant, key, idempotency_key)
 WHERE s.partition = $1 AND s.workflow = $2 AND s.tenant = t.tenant AND s.key = t.key
   AND s.idempotency_key = t.idempotency_key
