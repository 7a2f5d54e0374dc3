-- applied_by_tenant: take note of tenants' own last folded positions.
--
--   $1 projection   $2 generation   $3 tenants   $4 positions
--
-- Caller   projectors/writing.py, write_changes

INSERT INTO {namespace}.applied_by_tenant AS a (tenant, projection, generation, position)
SELECT t.tenant, $1, $2, t.position FROM unnest($3::text[], $4::bigint[]) AS t (tenant, position)
ON CONFLICT ON CONSTRAINT applied_by_tenant_key
DO UPDATE SET position = greatest(a.position, excluded.position)
