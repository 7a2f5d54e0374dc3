-- advance_checkpoint_v1: move one consumer's checkpoint, or undo the transaction that it is called in.
--
--   _kind, _consumer, _generation, _partition    whose
--   _from_position, _from_hash, _revision        what the caller believes it to be
--   _position, _hash, _recorded_at               where it goes
--
-- Returns  the new position
-- Raises   EF001 if the checkpoint is not what the caller believes: somebody else has moved it, so the caller is a
--          zombie, or rows were mended under it; all that it wrote in this transaction is undone
-- Caller   event_store/checkpoints.py; the statements that projectors/tables.py makes
--
-- The commit does not wait for the disk (synchronous_commit is off for this transaction alone): after a crash of
-- the server rows and checkpoint are back together, and what was lost is folded from the log again.

CREATE FUNCTION {namespace}.advance_checkpoint_v1(
    _kind text, _consumer text, _generation integer, _partition integer,
    _from_position bigint, _from_hash bytea, _revision integer,
    _position bigint, _hash bytea, _recorded_at timestamptz
) RETURNS bigint
LANGUAGE plpgsql
AS $function$
BEGIN
    UPDATE {namespace}.checkpoints AS c
       SET position = _position,
           commit_hash = _hash,
           recorded_at = _recorded_at,
           waiting_for = NULL,
           updated_at = now()
     WHERE c.kind = _kind AND c.consumer = _consumer AND c.generation = _generation AND c.partition = _partition
       AND c.position = _from_position AND c.commit_hash = _from_hash AND c.revision = _revision;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the checkpoint of % % in partition % is not at %', _kind, _consumer, _partition, _from_position
            USING ERRCODE = 'EF001';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN _position;
END
$function$;
