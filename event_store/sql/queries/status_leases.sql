-- status_leases: which partitions somebody works on.
--
-- Caller   event_store/waits.py

SELECT group_name, partition FROM {namespace}.leases WHERE expires_at > clock_timestamp()
