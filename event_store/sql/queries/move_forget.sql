-- move_forget: have a server know nothing of a tenant's moves from one on; they are noted again in the same transaction.
--
--   $1 tenant   $2 number of the move
--
-- Caller   event_store/moving.py, Mover._leave_again

DELETE FROM {namespace}.tenant_moves AS m WHERE m.tenant = $1 AND m.number >= $2
