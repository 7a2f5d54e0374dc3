-- guard_placement_v1: a tenant's place is settled before its first event, and never changes afterwards.
--
-- Raises   ES006 if the tenant has streams on this server in another partition than the one it is to live in
-- Caller   the trigger on tenant_partitions
--
-- All partitions here are locked first, so no append is under way that looked at an older placement; appends
-- after it look again (append_batch_v1).

CREATE FUNCTION {namespace}.guard_placement_v1() RETURNS trigger
LANGUAGE plpgsql
AS $function$
DECLARE
    _tenant    text := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant ELSE NEW.tenant END;
    _partition integer := CASE TG_OP WHEN 'INSERT' THEN NEW.partition END;
BEGIN
    PERFORM FROM {namespace}.partitions AS p ORDER BY p.partition FOR UPDATE;
    IF EXISTS (SELECT FROM {namespace}.streams AS s
                WHERE s.tenant = _tenant AND s.partition IS DISTINCT FROM _partition) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES006', MESSAGE = 'the tenant has events already';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$function$;

CREATE TRIGGER guard_placement BEFORE INSERT OR UPDATE OR DELETE ON {namespace}.tenant_partitions
FOR EACH ROW EXECUTE FUNCTION {namespace}.guard_placement_v1();
