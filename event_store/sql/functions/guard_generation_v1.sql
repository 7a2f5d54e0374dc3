-- guard_generation_v1: guard the tables of one generation of a projection, and say who may do what with them.
--
--   _schema  the generation's schema; the caller owns it
--
-- Raises   ES011 a table has no column `tenant`, or the schema holds what row security cannot guard (a materialised
--          view, a foreign table); its detail names it
-- Caller   projectors/generations.py, make_tables, as {namespace}_builder; r0009_guards for generations made before
--
-- A view asks with its reader's rights (security_invoker), so the guards of the tables under it hold.

CREATE FUNCTION {namespace}.guard_generation_v1(_schema text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $function$
DECLARE
    _relation regclass;
    _kind     "char";
BEGIN
    FOR _relation, _kind IN
        SELECT c.oid, c.relkind FROM pg_class AS c
         WHERE c.relnamespace = quote_ident(_schema)::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
         ORDER BY c.oid
    LOOP
        IF _kind IN ('m', 'f') OR _kind <> 'v' AND NOT EXISTS (
            SELECT FROM pg_attribute AS a
             WHERE a.attrelid = _relation AND a.attname = 'tenant' AND NOT a.attisdropped
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'ES011', MESSAGE = 'a table cannot be guarded by tenant',
                DETAIL = format('%s has no column tenant, or is neither a table nor a view', _relation);
        END IF;
        IF _kind = 'v' THEN
            EXECUTE format('ALTER VIEW %s SET (security_invoker = true)', _relation);
        ELSE
            PERFORM {namespace}.guard_tenants_v1(_relation);
        END IF;
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {namespace}_feed, {namespace}_query', _schema);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO {namespace}_query', _schema);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO {namespace}_feed', _schema);
END
$function$;
