-- detach_keys: take a day's keys out of a partition's, without holding up appends; not in a transaction.
--
-- Caller   event_store/old_keys.py

ALTER TABLE {namespace}.{keys} DETACH PARTITION {namespace}.{day} CONCURRENTLY
