-- move_keys_to: keep the first answers of keys that a tenant brings along to a partition.
--
--   $1 partition   $2 tenant   $3 keys, $4 subjects, and the rest as move_keys_from returns it
--
-- Caller   event_store/moving.py, Mover._copy

INSERT INTO {namespace}.moved_keys (partition, tenant, key, subject, fingerprint, written_in, position, events, stream,
                                    version, commit_position, commit_hash)
SELECT $1, $2, u.*
  FROM unnest($3::text[], $4::text[], $5::bytea[], $6::integer[], $7::bigint[], $8::integer[], $9::text[],
              $10::bigint[], $11::bigint[], $12::bytea[]) AS u
ON CONFLICT ON CONSTRAINT moved_keys_key DO NOTHING
