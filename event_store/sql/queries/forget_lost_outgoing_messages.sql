-- forget_lost_outgoing_messages: never send what follows from lost events; what was sent is kept to be seen.
--
--   $1 partition   $2 the last position that the log still has
--
-- Returns  one row for each that is forgotten
-- Caller   event_store/recovery.py

DELETE FROM {namespace}.outgoing_messages WHERE partition = $1 AND position > $2 AND state <> 'delivered'
RETURNING position
