-- drop_keys: drop a day's keys that have been taken out.
--
-- Caller   event_store/old_keys.py

DROP TABLE IF EXISTS {namespace}.{day}
