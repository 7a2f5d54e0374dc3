-- alive_groups: the groups of projectors that have live members, one for each set of versions that some program folds.
--
--   $1 what their names begin with
--
-- Caller   projectors/generations.py, Generations.alive_groups

SELECT DISTINCT m.group_name FROM {namespace}.lease_members AS m
 WHERE starts_with(m.group_name, $1) AND m.expires_at > clock_timestamp()
