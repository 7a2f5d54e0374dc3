-- destroy_subject_keys_v1: destroy a person's key, and open the erasure of all copies of what it had encrypted.
--
--   _tenant, _subject   who
--   _actor, _reason     who wants it, and why
--   _generation         null; or, where an erasure is applied again, the last generation that it destroyed: newer
--                       keys live on, and generations that are not here are put down as erased
--   _erased_at          null; or when that was
--
-- Returns  the last generation that was destroyed now; null if there was nothing left to destroy
-- Caller   event_store/subject_keys.py, SubjectKeys.destroy

CREATE FUNCTION {namespace}.destroy_subject_keys_v1(
    _tenant text, _subject bytea, _actor text, _reason text, _generation integer, _erased_at timestamptz
) RETURNS integer
LANGUAGE plpgsql
AS $function$
DECLARE
    _epoch     bigint;
    _destroyed integer;
    _added     integer;
BEGIN
    SELECT epoch + 1 INTO _epoch FROM {namespace}.key_epoch FOR UPDATE;
    WITH destroyed AS (
        UPDATE {namespace}.subject_keys AS k
           SET master = NULL, wrapped = NULL, erased_at = clock_timestamp(), erased_epoch = _epoch
         WHERE k.tenant_name = _tenant AND k.subject = _subject AND k.wrapped IS NOT NULL
           AND k.generation <= coalesce(_generation, k.generation)
        RETURNING k.generation
    )
    SELECT max(generation) INTO _destroyed FROM destroyed;
    WITH added AS (
        INSERT INTO {namespace}.subject_keys (tenant_name, subject, generation, erased_at, erased_epoch)
        SELECT _tenant, _subject, g, coalesce(_erased_at, clock_timestamp()), _epoch
          FROM generate_series(1, _generation) AS g
            ON CONFLICT DO NOTHING
        RETURNING generation
    )
    SELECT max(generation) INTO _added FROM added;
    IF _destroyed IS NULL AND _added IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE {namespace}.key_epoch SET epoch = _epoch;
    INSERT INTO {namespace}.erasures (tenant, subject, generation, actor, reason)
    VALUES (_tenant, _subject, coalesce(_generation, _destroyed), _actor, _reason)
        ON CONFLICT ON CONSTRAINT erasures_key DO UPDATE SET steps = '{}', ended_at = NULL;
    RETURN coalesce(_generation, _destroyed);
END
$function$;
