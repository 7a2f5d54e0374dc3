-- forget_timer: forget a timer whose cause the log has lost.
--
--   $1 partition   $2 workflow   $3 tenant   $4 key
--
-- Caller   event_store/recovery.py

DELETE FROM {namespace}.scheduled_commands AS s
 WHERE s.partition = $1 AND s.workflow = $2 AND s.tenant = $3 AND s.key = $4
