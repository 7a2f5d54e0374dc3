-- advance_checkpoints_v1: move several consumers' checkpoints in one partition to one place, or undo the transaction
-- that it is called in.
--
--   _kind, _partition                       of all of them
--   _consumers, _generations                whose
--   _positions, _hashes, _revisions         what the caller believes them to be
--   _position, _hash, _recorded_at          where they go
--
-- Returns  the new position
-- Raises   EF001 if one of them is not what the caller believes: all that it wrote in this transaction is undone
-- Caller   projectors/joint_writes.py
--
-- The commit does not wait for the disk; see advance_checkpoint_v1.

CREATE FUNCTION {namespace}.advance_checkpoints_v1(
    _kind text, _partition integer, _consumers text[], _generations integer[],
    _positions bigint[], _hashes bytea[], _revisions integer[],
    _position bigint, _hash bytea, _recorded_at timestamptz
) RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    _moved integer;
BEGIN
    UPDATE {namespace}.checkpoints AS c
       SET position = _position,
           commit_hash = _hash,
           recorded_at = _recorded_at,
           waiting_for = NULL,
           updated_at = now()
      FROM unnest(_consumers, _generations, _positions, _hashes, _revisions)
           AS m (consumer, generation, position, hash, revision)
     WHERE c.kind = _kind AND c.partition = _partition AND c.consumer = m.consumer AND c.generation = m.generation
       AND c.position = m.position AND c.commit_hash = m.hash AND c.revision = m.revision;
    GET DIAGNOSTICS _moved = ROW_COUNT;
    IF _moved <> cardinality(_consumers) THEN
        RAISE EXCEPTION 'of % checkpoints in partition % only % are where they were believed to be',
            cardinality(_consumers), _partition, _moved
            USING ERRCODE = 'EF001';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN _position;
END
$function$;
