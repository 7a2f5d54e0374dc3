-- show_message: one message to the outside world, with what is sent.
--
--   $1 tenant   $2 id
--
-- Caller   command_api/deliveries.py, Deliveries.show

SELECT m.id, m.tenant, m.workflow, m.channel, m.type, m.summary, m.state, m.attempts, m.try_at, m.last_error,
       m.stream, m.position, m.created_at, m.ended_at, m.body, m.causation_id, m.correlation_id, m.traceparent
  FROM {namespace}.outgoing_messages AS m
 WHERE m.tenant = $1 AND m.id = $2
