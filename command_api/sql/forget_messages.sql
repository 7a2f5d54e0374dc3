-- forget_messages: take away messages that ended long ago, some at a time.
--
--   $1 state   $2 how long ago   $3 how many at most
--
-- Caller   command_api/outgoing.py, OutgoingMessages.forget_old

DELETE FROM {namespace}.outgoing_messages AS m
 USING (SELECT o.id FROM {namespace}.outgoing_messages AS o
         WHERE o.state = $1 AND o.ended_at < clock_timestamp() - $2::interval
         ORDER BY o.ended_at
         LIMIT $3) AS old
 WHERE m.id = old.id
