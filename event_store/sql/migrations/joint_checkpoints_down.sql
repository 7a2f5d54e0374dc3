-- joint_checkpoints_down: undo joint_checkpoints.

DROP FUNCTION {namespace}.advance_checkpoints_v1;
