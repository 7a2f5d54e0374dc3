-- guard_placement_v2: a tenant's place is settled before its first event, and changes afterwards only by a move.
--
-- Raises   ES006 if the tenant has moved, or is on its way, and its last move that is known here says another place; or if
--          it never moved and has streams on this server in another partition than the one it is to live in
-- Caller   the trigger on tenant_partitions
--
-- All partitions here are locked first, so no append is under way that looked at an older placement; appends
-- after it look again (append_batch_v2).

CREATE FUNCTION {namespace}.guard_placement_v2() RETURNS trigger
LANGUAGE plpgsql
AS $function$
DECLARE
    _tenant    text := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant ELSE NEW.tenant END;
    _partition integer := CASE TG_OP WHEN 'DELETE' THEN NULL ELSE NEW.partition END;
    _place     integer;
BEGIN
    PERFORM FROM {namespace}.partitions AS p ORDER BY p.partition FOR UPDATE;
    SELECT CASE WHEN m.arrived_position IS NULL THEN -1 - m.from_partition ELSE m.to_partition END
      INTO _place
      FROM {namespace}.tenant_moves AS m WHERE m.tenant = _tenant ORDER BY m.number DESC LIMIT 1;
    IF FOUND AND _place IS DISTINCT FROM _partition THEN
        RAISE EXCEPTION USING ERRCODE = 'ES006', MESSAGE = 'the tenant has moved';
    END IF;
    IF NOT FOUND AND EXISTS (SELECT FROM {namespace}.streams AS s
                              WHERE s.tenant = _tenant AND s.partition IS DISTINCT FROM _partition) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES006', MESSAGE = 'the tenant has events already';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$function$;

DROP TRIGGER guard_placement ON {namespace}.tenant_partitions;
CREATE TRIGGER guard_placement BEFORE INSERT OR UPDATE OR DELETE ON {namespace}.tenant_partitions
FOR EACH ROW EXECUTE FUNCTION {namespace}.guard_placement_v2();
