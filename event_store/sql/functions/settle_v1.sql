-- settle_v1: say what became of an append whose call was lost, and see to it that the call does nothing any more.
--
--   _partition, _calls      the calls of append_batch_v1 that were lost; from now on they are refused
--   _tenant, _stream        the append's tenant and main stream
--   _subject, _key          its key, or null
--   _event_stream           the stream of its first event, or null when it has none
--   _event_version          the version that event has if it was appended; null when any would do
--   _event_id               its id
--   _events                 how many events it has
--
-- Returns  no row if it was not appended; else
--          own           whether these are the append's own events, and not those of another call with its key
--          fingerprint   of the request that the key is bound to; null if the append was found by its event
--          position, events, stream, version, commit_position, commit_hash   as its first answer said
-- Raises   ES001 the partition is not here; 55P03 the lock was not to be had
-- Caller   event_store/postgres.py, PostgresLog.settle
--
-- It holds the partition's lock, so the lost call has either committed and is seen, or it comes later and finds itself
-- forbidden. Its own commit waits for what the lost one waited for (synchronous standbys), so "it is there" is durable.

CREATE OR REPLACE FUNCTION {namespace}.settle_v1(
    _partition integer, _calls bigint[], _tenant text, _stream text, _subject text, _key text,
    _event_stream text, _event_version bigint, _event_id uuid, _events integer
) RETURNS TABLE (
    own boolean, fingerprint bytea, "position" bigint, events integer, stream text, version bigint,
    commit_position bigint, commit_hash bytea
)
LANGUAGE plpgsql
SET lock_timeout = '3s'
SET enable_seqscan = off
SET jit = off
AS $function$
BEGIN
    PERFORM set_config('{namespace}.tenants', ARRAY[_tenant]::text, true);
    PERFORM FROM {namespace}.partitions AS p WHERE p.partition = _partition FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = 'the partition is not here';
    END IF;
    INSERT INTO {namespace}.void_calls (partition, call) SELECT _partition, unnest(_calls) ON CONFLICT DO NOTHING;
    RETURN QUERY
    SELECT EXISTS (SELECT FROM {namespace}.events AS e
                    WHERE e.partition = _partition AND e.position = k.position - k.events + 1 AND e.id = _event_id),
           k.fingerprint, k.position, k.events, k.stream, k.version, c.last_position, c.hash
      FROM {namespace}.idempotency_keys AS k
      LEFT JOIN LATERAL (
           SELECT c.last_position, c.hash FROM {namespace}.commits AS c
            WHERE c.partition = _partition AND c.last_position >= k.position AND k.position > 0
            ORDER BY c.last_position LIMIT 1) AS c ON true
     WHERE k.partition = _partition AND k.tenant = _tenant AND k.subject = _subject AND k.key = _key;
    IF FOUND OR _event_stream IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT true, NULL::bytea, l.last, _events, _stream,
           coalesce((SELECT m.version FROM {namespace}.events AS m
                      WHERE m.partition = _partition AND m.tenant = _tenant AND m.stream = _stream AND m.position + 0 <= l.last
                      ORDER BY m.version DESC LIMIT 1), 0),
           c.last_position, c.hash
      FROM {namespace}.events AS e
     CROSS JOIN LATERAL (SELECT e.position + _events - 1 AS last) AS l
      LEFT JOIN LATERAL (
           SELECT c.last_position, c.hash FROM {namespace}.commits AS c
            WHERE c.partition = _partition AND c.last_position >= l.last ORDER BY c.last_position LIMIT 1) AS c ON true
     WHERE e.partition = _partition AND e.tenant = _tenant AND e.stream = _event_stream AND e.id = _event_id
       AND (_event_version IS NULL OR e.version = _event_version)
     LIMIT 1;
END
$function$;
