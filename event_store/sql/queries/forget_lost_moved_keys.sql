-- forget_lost_moved_keys: forget the keys that came along with a tenant and are bound to what a restore has lost.
--
--   $1 tenant   $2 the partition that was restored   $3 the position up to which it has the tenant's events
--
-- Caller   event_store/lost_moves.py

DELETE FROM {namespace}.moved_keys AS k
 WHERE k.tenant = $1 AND k.written_in = $2 AND k.position > $3
RETURNING k.partition
