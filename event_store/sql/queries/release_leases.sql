-- release_leases: give partitions back, so that others need not wait until the leases run out.
--
--   $1 group   $2 holder   $3 partitions
--
-- Caller   event_store/leases.py, Leases.release

DELETE FROM {namespace}.leases WHERE group_name = $1 AND holder = $2 AND partition = ANY ($3::integer[])
