-- known_tenants: the tenants that a server knows to have moved, or to have been placed, and where it has them live.
--
-- Returns  partition is null where no row says so; has_moved: whether it knows of a move
-- Caller   event_store/lost_moves.py; it reads whole tables, as who follows the log may

SELECT coalesce(t.tenant, m.tenant) AS tenant, t.partition, m.tenant IS NOT NULL AS has_moved
  FROM {namespace}.tenant_partitions AS t
  FULL JOIN (SELECT DISTINCT o.tenant FROM {namespace}.tenant_moves AS o) AS m ON m.tenant = t.tenant
 ORDER BY 1
