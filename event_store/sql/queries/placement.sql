-- placement: where a tenant lives that does not live where the hash of its name says, and the moves that led there.
--
--   $1 tenant
--
-- Returns  one row per move, in order; one without a move where it never moved. partition is null where the hash counts
-- Caller   event_store/placement.py

SELECT t.partition, m.tenant, m.number, m.from_partition, m.left_position, m.left_hash, m.left_at, m.to_partition,
       m.arrived_position, m.arrived_at
  FROM set_config('{namespace}.tenants', ARRAY[$1::text]::text, true) AS scope (tenants)
  LEFT JOIN LATERAL (
       SELECT p.partition FROM {namespace}.tenant_partitions AS p
        WHERE p.tenant = $1 AND scope.tenants IS NOT NULL
       OFFSET 0) AS t ON true
  LEFT JOIN LATERAL (
       SELECT o.* FROM {namespace}.tenant_moves AS o
        WHERE o.tenant = $1 AND scope.tenants IS NOT NULL
       OFFSET 0) AS m ON true
 ORDER BY m.number
