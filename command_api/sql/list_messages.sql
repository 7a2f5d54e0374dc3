-- list_messages: a tenant's messages to the outside world, newest first.
--
--   $1 tenant   $2 states   $3 a channel, or null for all   $4 how many at most
--
-- Caller   command_api/deliveries.py, Deliveries.list

SELECT m.id, m.tenant, m.workflow, m.channel, m.type, m.summary, m.state, m.attempts, m.try_at, m.last_error,
       m.stream, m.position, m.created_at, m.ended_at
  FROM {namespace}.outgoing_messages AS m
 WHERE m.tenant = $1 AND m.state = ANY ($2::text[]) AND ($3::text IS NULL OR m.channel = $3)
 ORDER BY m.created_at DESC, m.id
 LIMIT $4
