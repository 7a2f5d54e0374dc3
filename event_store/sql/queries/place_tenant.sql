-- place_tenant: have a tenant live in a partition that the hash of its name does not give.
--
--   $1 tenant   $2 partition
--
-- Raises   ES006, from guard_placement_v1
-- Caller   event_store/postgres.py, PostgresLog.place_tenant

INSERT INTO {namespace}.tenant_partitions AS t (tenant, partition) VALUES ($1, $2)
ON CONFLICT (tenant) DO UPDATE SET partition = excluded.partition WHERE t.partition <> excluded.partition
