-- clock: what time it is on this server.
--
-- Caller   event_store/moving.py

SELECT clock_timestamp()
