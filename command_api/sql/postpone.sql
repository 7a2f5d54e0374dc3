-- postpone: timers whose command could not be sent are tried again later, and say why.
--
--   $1 partition   $2 workflow   $3 tenants, $4 keys, $5 idempotency keys, $6 errors, $7 waits
--
-- Caller   command_api/scheduled.py, ScheduledCommands.postpone

UPDATE {namespace}.scheduled_commands AS s
   SET attempts = s.attempts + 1, last_error = t.error, try_at = clock_timestamp() + t.wait
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::interval[])
       AS t (tenant, key, idempotency_key, error, wait)
 WHERE s.partition = $1 AND s.workflow = $2 AND s.tenant = t.tenant AND s.key = t.key
   AND s.idempotency_key = t.idempotency_key
