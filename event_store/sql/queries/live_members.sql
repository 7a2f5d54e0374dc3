-- live_members: who is believed to take part in a group, or in one whose name goes on with `/`.
--
--   $1 group
--
-- Caller   event_store/operations.py, Operations.carriers

SELECT holder FROM {namespace}.lease_members WHERE (group_name = $1 OR starts_with(group_name, $1 || '/')) AND expires_at > clock_timestamp()
