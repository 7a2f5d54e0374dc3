-- placement: where a tenant lives that does not live where the hash of its name says.
--
--   $1 tenant
--
-- Caller   event_store/postgres.py, PostgresLog.partition_of

SELECT t.partition FROM {namespace}.tenant_partitions AS t WHERE t.tenant = $1
