-- move_stand_in: say for the length of a transaction that a tenant's last move led to where its fence is to be put up.
--
--   $1 tenant   $2 partition   $3 any hash
--
-- Caller   event_store/moving.py, Mover._stand_in; move_forget takes it away
--
-- It comes from a partition that no log has, so it is in the way of no other move.

INSERT INTO {namespace}.tenant_moves (tenant, number, from_partition, left_position, left_hash, left_at, to_partition,
                                      arrived_position, arrived_at)
VALUES ($1, 2147483647, -1, 0, $3, clock_timestamp(), $2, 0, clock_timestamp())
