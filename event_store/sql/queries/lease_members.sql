-- lease_members: who takes part in a group.
--
--   $1 group
--
-- Caller   event_store/leases.py, Leases.renew

SELECT holder FROM {namespace}.lease_members WHERE group_name = $1
