-- status_waits: what Everfold's sessions at the read tables wait for.
--
--   {seconds} for how long a statement has run at least
--
-- Caller   event_store/waits.py

SELECT application, statement, seconds, event, holder, holder_user, holder_pid, holder_state, holder_seconds
  FROM {namespace}.session_waits_v1({seconds}) ORDER BY seconds DESC
