-- refuse_change_v1: keep events and commits as they were written.
--
-- Raises   ES005, always
-- Caller   triggers on events, commits and each of their partitions, made by this file, create_partition_v1 and
--          ensure_ranges_v1
--
-- A statement's trigger is that of the table which the statement names, so every partition needs its own; even a
-- statement that would change no row is refused.

CREATE FUNCTION {namespace}.refuse_change_v1() RETURNS trigger
LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'ES005', MESSAGE = 'the log only grows',
        DETAIL = format('%s of %I.%I was refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME);
END
$function$;

CREATE FUNCTION {namespace}.guard_v1(_table regclass) RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %s'
        ' FOR EACH STATEMENT EXECUTE FUNCTION {namespace}.refuse_change_v1()', _table);
END
$function$;

SELECT {namespace}.guard_v1('{namespace}.events'), {namespace}.guard_v1('{namespace}.commits');
