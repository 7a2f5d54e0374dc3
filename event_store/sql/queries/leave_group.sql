-- leave_group: take no more part in a group; what is still held becomes free.
--
--   $1 group   $2 holder
--
-- Caller   event_store/leases.py, Leases.leave

WITH gone AS (
    DELETE FROM {namespace}.lease_members WHERE group_name = $1 AND holder = $2
)
DELETE FROM {namespace}.leases WHERE group_name = $1 AND holder = $2
