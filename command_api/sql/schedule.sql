-- schedule: set timers; one that is set already for the same time and command is left as it is.
--
--   $1 partition   $2 workflow
--   $3 tenants, $4 keys, $5 due times, $6 commands, $7 fields, $8 idempotency keys, $9 causation ids,
--   $10 correlation ids, $11 traceparents    one element per timer, each tenant and key once
--
-- Caller   command_api/scheduled.py, write_timers, in the transaction that moves the checkpoint

INSERT INTO {namespace}.scheduled_commands AS s
       (partition, workflow, tenant, key, due_at, try_at, command, fields, idempotency_key, causation_id,
        correlation_id, traceparent)
SELECT $1, $2, t.tenant, t.key, t.due_at, t.due_at, t.command, t.fields, t.idempotency_key, t.causation_id,
       t.correlation_id, t.traceparent
  FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::bytea[], $8::text[], $9::text[],
              $10::text[], $11::text[])
       AS t (tenant, key, due_at, command, fields, idempotency_key, causation_id, correlation_id, traceparent)
ON CONFLICT ON CONSTRAINT scheduled_commands_key DO UPDATE
   SET due_at = excluded.due_at, try_at = excluded.try_at, attempts = 0, last_error = NULL,
       command = excluded.command, fields = excluded.fields, idempotency_key = excluded.idempotency_key,
       causation_id = excluded.causation_id, correlation_id = excluded.correlation_id,
       traceparent = excluded.traceparent, scheduled_at = clock_timestamp()
 WHERE (s.due_at, s.command, s.fields) IS DISTINCT FROM (excluded.due_at, excluded.command, excluded.fields)
