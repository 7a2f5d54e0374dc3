-- moved_tenants: the tenants that have left a partition or come to it; for who reads whole partitions.
--
--   $1 partition
--
-- Caller   event_store/postgres_reading.py, PostgresReading.moved_tenants

SELECT DISTINCT m.tenant FROM {namespace}.tenant_moves AS m WHERE $1 IN (m.from_partition, m.to_partition)
