-- move_moved_keys_from: the next of the keys that came to a partition with a tenant, which take them along once more.
--
--   $1 partition   $2 tenant   $3 how many at most   $4 key and $5 subject after which they begin
--
-- Caller   event_store/moving.py, Mover._copy

SELECT k.key, k.subject, k.fingerprint, k.written_in, k.position, k.events, k.stream, k.version, k.commit_position,
       k.commit_hash
  FROM {namespace}.moved_keys AS k
 WHERE k.partition = $1 AND k.tenant = $2 AND (k.key, k.subject) > ($4, $5)
 ORDER BY k.key, k.subject LIMIT $3
