-- move_place_again: have a tenant live in the partition where a lost fence of it is to be put up, if a row says otherwise.
--
--   $1 tenant   $2 partition
--
-- Raises   ES006, from guard_placement_v2
-- Caller   event_store/moving.py, Mover._stand_in, under the lock of all partitions here

UPDATE {namespace}.tenant_partitions AS t SET partition = $2 WHERE t.tenant = $1 AND t.partition <> $2
