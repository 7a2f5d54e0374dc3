-- followed_to: the partition in which a generation has last folded an event of a tenant.
--
--   $1 projection   $2 generation   $3 tenant
--
-- Returns  null where it has folded none, or has not said where
-- Caller   projectors/moved.py

SELECT a.partition FROM {namespace}.applied_by_tenant AS a
 WHERE a.projection = $1 AND a.generation = $2 AND a.tenant = $3
