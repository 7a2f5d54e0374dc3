-- placement: where a tenant lives that does not live where the hash of its name says.
--
--   $1 tenant
--
-- Caller   event_store/postgres.py, PostgresLog.partition_of

SELECT placed.partition
  FROM set_config('{namespace}.tenants', ARRAY[$1::text]::text, true) AS scope (tenants)
 CROSS JOIN LATERAL (
       SELECT t.partition FROM {namespace}.tenant_partitions AS t
        WHERE t.tenant = $1 AND scope.tenants IS NOT NULL
       OFFSET 0) AS placed
