-- detach_keys_finally: end what an interrupted detach_keys has begun.
--
-- Caller   event_store/old_keys.py

ALTER TABLE {namespace}.{keys} DETACH PARTITION {namespace}.{day} FINALIZE
