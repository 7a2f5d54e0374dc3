-- end_message: note that a message was delivered, or that it is given up.
--
--   $1 id   $2 `delivered`, `dead` or `unrouted`   $3 the attempt   $4 the error, if there is one
--
-- Caller   command_api/outgoing.py, OutgoingMessages.end
--
-- That it was delivered is true whoever says it, and however late; that it is given up is only for who tried last.

UPDATE {namespace}.outgoing_messages AS m
   SET state = $2, ended_at = clock_timestamp(), last_error = $4
 WHERE m.id = $1 AND CASE WHEN $2 = 'delivered' THEN m.state <> 'delivered'
                          ELSE m.state = 'waiting' AND m.attempts = $3 END
