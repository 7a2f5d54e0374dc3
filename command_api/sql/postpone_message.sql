-- postpone_message: a message could not be delivered; it is tried again later, and says why.
--
--   $1 id   $2 the attempt   $3 the error   $4 how long to wait
--
-- Caller   command_api/outgoing.py, OutgoingMessages.postpone

UPDATE {namespace}.outgoing_messages AS m
   SET last_error = $3, try_at = clock_timestamp() + $4
 WHERE m.id = $1 AND m.state = 'waiting' AND m.attempts = $2
