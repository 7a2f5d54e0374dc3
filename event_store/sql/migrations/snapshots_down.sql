-- snapshots_down: take back what snapshots.sql and its functions made. All of it can be made again from the log.

DROP FUNCTION {namespace}.forget_states_v1;
DROP FUNCTION {namespace}.save_states_v1;
DROP FUNCTION {namespace}.read_states_v1;
DROP TABLE {namespace}.forgotten_snapshots, {namespace}.snapshots;
