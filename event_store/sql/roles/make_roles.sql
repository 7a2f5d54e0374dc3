-- make_roles: the roles of a system in its database server, and who may take them.
--
--   {namespace}_appender  appends: what append_batch, settle and the reading of streams need
--   {namespace}_feed      follows: reads the whole log, keeps checkpoints, writes read tables
--   {namespace}_query     answers: reads, and of tables with tenants only those that the transaction names
--   {namespace}_builder   owns the tables of projections' generations; taken for their making and dropping alone
--   {namespace}_keeper    owns the tables of idempotency keys; taken to make tomorrow's and to drop old ones
--
-- Raises   ES010 something is missing that the account may not make; its detail says what
-- Caller   event_store/roles.py, make_roles, before a migration and in a transaction of its own; or an
--          administrator, who is shown it by `everfold migrate --print-roles`
--
-- Roles belong to the whole server, so another database may be making the same ones now: whoever comes second finds
-- them made. None of them can log in, own the log, or pass by row security. They do not inherit: what builder and keeper
-- own is in others' hands only once they have taken that role. The account that migrates owns the log; it takes part in
-- `feed`, because row security is forced on owners too.

DO $body$
DECLARE
    _account name := coalesce(nullif(current_setting('{namespace}.account', true), ''), current_user);
    _role    name;
    _member  name;
    _missing text[] := '{}';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('everfold/roles', 0));
    BEGIN
        FOREACH _role IN ARRAY ARRAY['{namespace}_appender', '{namespace}_feed', '{namespace}_query', '{namespace}_builder',
                                   '{namespace}_keeper']
        LOOP
            CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = _role);
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', _role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                CONTINUE;
            END;
        END LOOP;
        FOR _role, _member IN
            SELECT wanted.role, wanted.member FROM (VALUES
                   ('{namespace}_builder'::name, '{namespace}_feed'::name), ('{namespace}_keeper', '{namespace}_feed'),
                   ('{namespace}_keeper', '{namespace}_appender'), ('{namespace}_feed', _account),
                   ('{namespace}_builder', _account), ('{namespace}_keeper', _account)) AS wanted (role, member)
             WHERE NOT pg_has_role(wanted.member, wanted.role,
                                   CASE wanted.member WHEN _account THEN 'USAGE' ELSE 'MEMBER' END)
        LOOP
            BEGIN
                EXECUTE format('GRANT %I TO %I', _role, _member);
            EXCEPTION WHEN unique_violation THEN
                NULL;
            END;
        END LOOP;
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;  -- what it is that could not be made, is found out below
    END;
    BEGIN
        IF NOT has_database_privilege('{namespace}_builder', current_database(), 'CREATE') THEN
            EXECUTE format('GRANT CREATE ON DATABASE %I TO {namespace}_builder', current_database());
        END IF;
    EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
        NULL;  -- likewise
    END;

    SELECT coalesce(array_agg('role ' || wanted), '{}') INTO _missing
      FROM unnest(ARRAY['{namespace}_appender', '{namespace}_feed', '{namespace}_query', '{namespace}_builder',
                                   '{namespace}_keeper']) AS wanted
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = wanted);
    IF cardinality(_missing) = 0 THEN
        SELECT coalesce(array_agg(format('membership of %I in %I', wanted.member, wanted.role)
                                  || CASE wanted.member WHEN _account THEN ', inherited' ELSE '' END), '{}')
          INTO _missing
          FROM (VALUES
                ('{namespace}_builder'::name, '{namespace}_feed'::name), ('{namespace}_keeper', '{namespace}_feed'),
                ('{namespace}_keeper', '{namespace}_appender'), ('{namespace}_feed', _account),
                ('{namespace}_builder', _account), ('{namespace}_keeper', _account)) AS wanted (role, member)
         WHERE NOT pg_has_role(wanted.member, wanted.role,
                               CASE wanted.member WHEN _account THEN 'USAGE' ELSE 'MEMBER' END);
        IF NOT has_database_privilege('{namespace}_builder', current_database(), 'CREATE') THEN
            _missing := _missing || format('CREATE on database %I for {namespace}_builder', current_database());
        END IF;
    END IF;
    IF cardinality(_missing) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'ES010', MESSAGE = 'roles are missing',
            DETAIL = array_to_string(_missing, '; ');
    END IF;
END
$body$;
