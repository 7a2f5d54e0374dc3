-- create_partition: make one partition's tables (psycopg's placeholders: partition, events in a range or null).
--
-- Caller   event_store/migrate.py

SELECT {namespace}.create_partition_v2(%s::integer, coalesce(%s::bigint, 16777216))
