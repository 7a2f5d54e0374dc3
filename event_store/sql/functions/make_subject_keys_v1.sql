-- make_subject_keys_v1: give persons keys who have none that lives, and say which key each has.
--
--   _tenants, _subjects     who; one element per person
--   _masters, _wrapped      the key that each is to have, wrapped, unless somebody was faster
--
-- Returns  the living key of each, and the epoch; a person is left out whose key was destroyed meanwhile: ask again
-- Caller   event_store/subject_keys.py, SubjectKeys.make
--
-- Two processes that make a key for one person propose the same generation; the second waits for the first at the
-- primary key, adds nothing, and is told the first one's. In order, so that two that make several do not deadlock.

CREATE FUNCTION {namespace}.make_subject_keys_v1(
    _tenants text[], _subjects bytea[], _masters text[], _wrapped bytea[]
) RETURNS TABLE (tenant text, subject bytea, generation integer, master text, wrapped bytea, epoch bigint)
LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO {namespace}.subject_keys (tenant_name, subject, generation, master, wrapped)
    SELECT w.tenant, w.subject, coalesce(last.generation, 0) + 1, w.master, w.wrapped
      FROM unnest(_tenants, _subjects, _masters, _wrapped) AS w (tenant, subject, master, wrapped)
      LEFT JOIN LATERAL (
           SELECT k.generation, k.wrapped IS NOT NULL AS lives
             FROM {namespace}.subject_keys AS k
            WHERE k.tenant_name = w.tenant AND k.subject = w.subject
            ORDER BY k.generation DESC
            LIMIT 1
           ) AS last ON true
     WHERE last.lives IS NOT TRUE
     ORDER BY w.tenant, w.subject
        ON CONFLICT DO NOTHING;
    RETURN QUERY
    SELECT k.tenant_name, k.subject, k.generation, k.master, k.wrapped, e.epoch
      FROM {namespace}.key_epoch AS e
      CROSS JOIN unnest(_tenants, _subjects) AS w (tenant, subject)
      JOIN {namespace}.subject_keys AS k
        ON k.tenant_name = w.tenant AND k.subject = w.subject AND k.wrapped IS NOT NULL;
END
$function$;
