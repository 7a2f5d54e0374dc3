-- swap_generation_v1: make another generation of a projection the live one, if it has reached the present one.
--
--   _projection   its name
--   _generation   the generation to go live
--   _even_behind  true where the present one's positions mean nothing: the log has lost what they rest on
--
-- Returns  whether it was swapped; false: in some partition it is behind the present one, so a reader's position
--          would go backwards
-- Caller   projectors/generations.py, Generations.swap
--
-- The live number is one value in one row: a reader sees the one generation or the other, whole. The present one's
-- checkpoints are locked first, so its runner cannot move ahead between the comparison and the commit.

CREATE FUNCTION {namespace}.swap_generation_v1(_projection text, _generation integer, _even_behind boolean)
RETURNS boolean
LANGUAGE plpgsql
AS $function$
DECLARE
    _present integer;
    _version integer;
BEGIN
    SELECT p.generation INTO STRICT _present FROM {namespace}.projections AS p
     WHERE p.name = _projection FOR UPDATE;
    IF _present = _generation THEN
        RETURN true;
    END IF;
    PERFORM FROM {namespace}.checkpoints AS c
      WHERE c.kind = 'projection' AND c.consumer = _projection AND c.generation = _present
      ORDER BY c.partition FOR UPDATE;
    IF NOT _even_behind AND EXISTS (
        SELECT FROM {namespace}.checkpoints AS present
          LEFT JOIN {namespace}.checkpoints AS next
            ON next.kind = 'projection' AND next.consumer = _projection AND next.generation = _generation
           AND next.partition = present.partition
         WHERE present.kind = 'projection' AND present.consumer = _projection AND present.generation = _present
           AND present.position > coalesce(next.position, 0)
    ) THEN
        RETURN false;
    END IF;
    SELECT g.version INTO STRICT _version FROM {namespace}.generations AS g
     WHERE g.projection = _projection AND g.generation = _generation AND g.state IN ('building', 'kept');
    UPDATE {namespace}.projections AS p
       SET generation = _generation, version = _version, previous = _present, changed_at = now()
     WHERE p.name = _projection;
    UPDATE {namespace}.generations AS g
       SET state = CASE WHEN g.generation = _generation THEN 'live' ELSE 'kept' END, ended_at = now()
     WHERE g.projection = _projection AND g.generation IN (_generation, _present);
    RETURN true;
END
$function$;
