-- move_keys_from: the next of the keys that a tenant's requests have bound in a partition, with their whole first answers.
--
--   $1 partition   $2 tenant   $3 how many at most   $4 key and $5 subject after which they begin
--
-- Caller   event_store/moving.py, Mover._copy

SELECT k.key, k.subject, k.fingerprint, k.partition AS written_in, k.position, k.events, k.stream, k.version,
       coalesce(c.last_position, 0) AS commit_position, coalesce(c.hash, decode(repeat('00', 32), 'hex')) AS commit_hash
  FROM {namespace}.idempotency_keys AS k
  LEFT JOIN LATERAL (
       SELECT c.last_position, c.hash FROM {namespace}.commits AS c
        WHERE c.partition = $1 AND c.last_position >= k.position AND k.position > 0
        ORDER BY c.last_position LIMIT 1) AS c ON true
 WHERE k.partition = $1 AND k.tenant = $2 AND (k.key, k.subject) > ($4, $5)
 ORDER BY k.key, k.subject LIMIT $3
