-- applied_by_tenant: take note of tenants' own last folded positions.
--
--   $1 projection   $2 generation   $3 tenants   $4 positions   $5 the partition that they are positions in
--
-- Caller   projectors/writing.py, write_changes

INSERT INTO {namespace}.applied_by_tenant AS a (tenant, projection, generation, partition, position)
SELECT t.tenant, $1, $2, $5, t.position FROM unnest($3::text[], $4::bigint[]) AS t (tenant, position)
ON CONFLICT ON CONSTRAINT applied_by_tenant_key
DO UPDATE SET partition = excluded.partition, position = CASE WHEN a.partition = excluded.partition
                        THEN greatest(a.position, excluded.position) ELSE excluded.position END
