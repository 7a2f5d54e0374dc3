-- forget_states_v1: delete the saved states of a tenant's streams, and have none of them saved again.
--
--   _partition, _tenant, _streams  the streams
--
-- Returns  how many states were deleted
-- Caller   event_store/sql/queries/forget_states.sql
--
-- A process that still has an old state in its cache would else save it after the deletion. It waits for those that are
-- saving at this moment, and no longer.

CREATE OR REPLACE FUNCTION {namespace}.forget_states_v1(_partition integer, _tenant text, _streams text[]) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '10s'
AS $function$
DECLARE
    _deleted integer;
BEGIN
    PERFORM set_config('{namespace}.tenants', ARRAY[_tenant]::text, true);
    PERFORM pg_advisory_xact_lock(hashtextextended('{namespace}/snapshots', _partition));
    INSERT INTO {namespace}.forgotten_snapshots (partition, tenant, stream)
    SELECT _partition, _tenant, u.stream FROM unnest(_streams) AS u (stream) ON CONFLICT DO NOTHING;
    DELETE FROM {namespace}.snapshots AS s
     WHERE s.partition = _partition AND s.tenant = _tenant AND s.stream = ANY (_streams);
    GET DIAGNOSTICS _deleted = ROW_COUNT;
    RETURN _deleted;
END
$function$;
