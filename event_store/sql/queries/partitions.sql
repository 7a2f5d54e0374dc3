-- partitions: those that are on this server.
--
-- Caller   event_store/migrate.py

SELECT p.partition FROM {namespace}.partitions AS p ORDER BY p.partition
