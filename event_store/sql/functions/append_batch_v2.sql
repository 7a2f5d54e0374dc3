-- append_batch_v2: add the events of many independent appends to one partition, in one commit.
--
--   _partition        the partition; its row is locked until commit
--   _call             the caller's number for this call, by which settle_v1 can forbid it
--   _known_position,  the last commit that the caller's states rest on; position 0 is the beginning
--   _known_hash
--   _tenants,         one per stream that the batch is about, each once
--   _streams
--   _bytes            everything that is bytes, one after the other; what is in it is given by where it starts (from
--                     1) and how long it is
--   _upto,            one per append, in order: how many events the batch has up to its end, and what is stored beside
--   _metadata_…       each of its events
--   _check_…          one per check, in order of the appends: its append, its stream, the version expected (-1: any,
--                     -2: exists), how many events earlier appends put on the stream, the last earlier append that
--                     did (0: none), and how many events this append puts there (on its first check of a stream)
--   _event_…          one per event, in order: its check, its number among those of its append on that stream, and
--                     what it is
--   _event_tags       one per event: its tags in order, joined by U+001E, and empty where it has none; no elements at
--                     all where no event of the batch has tags
--   _key_…            one per append with a key: the append, its main stream, scope and name, where the request's
--                     fingerprint (32 bytes) starts, whether it binds, the last earlier one with the same key (0:
--                     none), how many events its append has, and how many the batch puts on the main stream up to
--                     its end
--   _item_…           one per item of an append's conditions, in order of the appends: the append, a stream of its
--                     tenant, the position after which no event may match, and what would match: all of these tags
--                     and any of these types, joined by U+001E (no types: any; a lone empty text
--                     arrives as no element)
--   _barred_…         where conditions match events of earlier appends of the batch, one per append and item, in
--   _bars_…           order: the append that the item bars, the append whose events match it, and the item's number
--                     (equal items have one)
--
-- Returns  _base, _base_hash  the head before; _last, _hash: the head after, which is the same if nothing was appended
--          _recorded_at       when
--          _versions          one per stream: its version before
--          _answers           one per append: 0 appended, 1 conflict, 2 duplicate, 3 reused; null: all are appended
--          _failed            one per append: the stream whose check failed, -1 where a condition did, or 0
--          _twins             one per append: the append of this batch that bound its key before it, or 0
--          _bound_…           one per key that was bound before this batch: what its first answer said
-- Raises   ES001 the partition is not here; ES002 the known commit is not in this log; ES003 the transaction is not
--          READ COMMITTED; ES004 the call was given up; ES008 a tenant lives in another partition; 55P03 the lock
--          was not to be had
-- Caller   event_store/postgres.py, PostgresLog.append_batch
--
-- The lock is a statement of its own: under READ COMMITTED each statement sees all that was committed before it
-- began, so every statement after the lock sees all that was written under the lock before. That is why positions
-- have no gaps and appear in commit order. Usually every check holds: then they are checked as a set and written by
-- one statement a table. Otherwise the appends are walked in order, which is a loop without exception blocks (each
-- would be a subtransaction), and what is left is written by the same statements. One append's conflict is an
-- answer, not an exception: its neighbours in the batch are not undone.
--
-- The batch's tenants are named first: row security lets the statements after that see and write rows of no others.
--
-- Plans are generic, since planning anew costs more than a small batch; a generic plan must not rest on what the
-- tables held when it was made, so only plans by index are allowed.

CREATE OR REPLACE FUNCTION {namespace}.append_batch_v2(
    _partition integer, _call bigint, _known_position bigint, _known_hash bytea,
    _tenants text[], _streams text[],
    _bytes bytea, _upto integer[], _metadata_start integer[], _metadata_octets integer[],
    _check_append integer[], _check_stream integer[], _check_expected bigint[], _check_offset integer[],
    _check_depends integer[], _check_events integer[],
    _event_check integer[], _event_nth integer[], _event_id uuid[], _event_type text[],
    _event_schema_version integer[], _event_start integer[], _event_octets integer[],
    _key_append integer[], _key_stream integer[], _key_subject text[], _key text[], _key_start integer[],
    _key_binds boolean[], _key_twin integer[], _key_events integer[], _key_offset integer[],
    _event_tags text[], _item_append integer[], _item_stream integer[], _item_after bigint[], _item_tags text[],
    _item_types text[], _barred_append integer[], _barred_item integer[], _bars_append integer[], _bars_item integer[],
    OUT _base bigint, OUT _base_hash bytea, OUT _last bigint, OUT _hash bytea, OUT _recorded_at timestamptz,
    OUT _versions bigint[], OUT _answers smallint[], OUT _failed integer[], OUT _twins integer[],
    OUT _bound_append integer[], OUT _bound_position bigint[], OUT _bound_events integer[],
    OUT _bound_stream text[], OUT _bound_version bigint[], OUT _bound_commit bigint[], OUT _bound_hash bytea[]
)
LANGUAGE plpgsql
SET lock_timeout = '3s'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _void         boolean;
    _elsewhere    boolean;
    _plain        boolean;
    _micros       bigint;
    _found        bytea[];
    _matched      integer[];
    _tagged       boolean := cardinality(_event_tags) > 0;
    _barred       integer := 1;
    _bars         integer := 1;
    _happened     boolean[] := '{}';
    _now          bigint[];
    _bound        boolean[];
    _answer       smallint;
    _check        integer := 1;
    _of_append    integer;
    _number       integer := 1;
    _twin         integer;
    _stream_index integer;
    _expected     bigint;
    _written      integer := 0;
BEGIN
    -- Mostly they are one tenant's, and then there is nothing to sort.
    PERFORM set_config('{namespace}.tenants', CASE WHEN _tenants[1] = ALL (_tenants) THEN ARRAY[_tenants[1]]::text
        ELSE (SELECT array_agg(DISTINCT t.tenant)::text FROM unnest(_tenants) AS t (tenant)) END, true);
    PERFORM FROM {namespace}.partitions AS p WHERE p.partition = _partition FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = 'the partition is not here';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'ES003', MESSAGE = 'appends need READ COMMITTED';
    END IF;

    SELECT coalesce(h.last_position, 0), coalesce(h.hash, decode(repeat('00', 32), 'hex')),
           greatest(clock_timestamp(), h.recorded_at),
           EXISTS (SELECT FROM {namespace}.void_calls AS v WHERE v.partition = _partition AND v.call = _call),
           EXISTS (SELECT FROM {namespace}.tenant_partitions AS t
                    WHERE t.tenant = ANY (_tenants) AND t.partition <> _partition),
           -- Not a join: that may be planned as one scan of the whole partition for each stream.
           (SELECT array_agg(coalesce(
                       (SELECT s.version FROM {namespace}.streams AS s
                         WHERE s.partition = _partition AND s.tenant = u.tenant AND s.stream = u.stream),
                       0) ORDER BY u.number)
              FROM unnest(_tenants, _streams) WITH ORDINALITY AS u (tenant, stream, number))
      INTO _base, _base_hash, _recorded_at, _void, _elsewhere, _versions
      FROM (SELECT) AS one
      LEFT JOIN LATERAL (
           SELECT c.last_position, c.hash, c.recorded_at FROM {namespace}.commits AS c
            WHERE c.partition = _partition ORDER BY c.last_position DESC LIMIT 1) AS h ON true;
    IF _void THEN
        RAISE EXCEPTION USING ERRCODE = 'ES004', MESSAGE = 'the call was given up';
    END IF;
    IF _elsewhere THEN
        RAISE EXCEPTION USING ERRCODE = 'ES008', MESSAGE = 'a tenant lives in another partition';
    END IF;
    IF _known_position = _base THEN
        _plain := _known_hash = _base_hash;
    ELSE
        _plain := _known_position = 0 OR EXISTS (
            SELECT FROM {namespace}.commits AS c
             WHERE c.partition = _partition AND c.last_position = _known_position AND c.hash = _known_hash);
    END IF;
    IF NOT _plain THEN
        RAISE EXCEPTION USING ERRCODE = 'ES002', MESSAGE = 'the known commit is not in this log';
    END IF;
    _last := _base;
    _hash := _base_hash;

    SELECT NOT EXISTS (
           SELECT FROM unnest(_check_stream, _check_expected, _check_offset) AS c (stream, expected, earlier)
            WHERE NOT CASE c.expected WHEN -1 THEN true WHEN -2 THEN _versions[c.stream] + c.earlier > 0
                      ELSE _versions[c.stream] + c.earlier = c.expected END)
      INTO _plain;
    IF _plain AND cardinality(_key) > 0 THEN
        SELECT NOT EXISTS (
               SELECT FROM unnest(_key_stream, _key_subject, _key, _key_twin) AS u (stream, subject, key, twin)
                -- Not EXISTS: that may be planned as one scan of the whole partition, hashed.
                WHERE u.twin > 0 OR (
                      SELECT true FROM {namespace}.idempotency_keys AS k
                       WHERE k.partition = _partition AND k.tenant = _tenants[u.stream]
                         AND k.subject = u.subject AND k.key = u.key LIMIT 1))
          INTO _plain;
    END IF;
    IF cardinality(_item_append) > 0 THEN
        SELECT array_agg(u.append)
          INTO _matched
          FROM unnest(_item_append, _item_stream, _item_after, _item_tags, _item_types)
               AS u (append, stream, after, tags, types)
         WHERE (SELECT true FROM {namespace}.tags AS t
                 WHERE t.partition = _partition AND t.tenant = _tenants[u.stream] AND t.position > u.after
                   AND t.tag = split_part(u.tags, U&'\001E', 1)
                   AND (coalesce(u.types, '') = '' OR t.type = ANY (string_to_array(u.types, U&'\001E')))
                   AND NOT EXISTS (
                       SELECT FROM unnest(string_to_array(u.tags, U&'\001E')) AS o (tag)
                        WHERE (SELECT true FROM {namespace}.tags AS a
                                WHERE a.partition = _partition AND a.tenant = t.tenant AND a.tag = o.tag
                                  AND a.position = t.position) IS NULL)
                 LIMIT 1);
        _plain := _plain AND _matched IS NULL AND cardinality(_barred_append) = 0;
    END IF;

    IF NOT _plain THEN
        SELECT array_agg(k.fingerprint ORDER BY u.number),
               array_agg(u.append ORDER BY u.number) FILTER (WHERE k.fingerprint IS NOT NULL),
               array_agg(k.position ORDER BY u.number) FILTER (WHERE k.fingerprint IS NOT NULL),
               array_agg(k.events ORDER BY u.number) FILTER (WHERE k.fingerprint IS NOT NULL),
               array_agg(k.stream ORDER BY u.number) FILTER (WHERE k.fingerprint IS NOT NULL),
               array_agg(k.version ORDER BY u.number) FILTER (WHERE k.fingerprint IS NOT NULL),
               array_agg(c.last_position ORDER BY u.number) FILTER (WHERE k.fingerprint IS NOT NULL),
               array_agg(c.hash ORDER BY u.number) FILTER (WHERE k.fingerprint IS NOT NULL)
          INTO _found, _bound_append, _bound_position, _bound_events, _bound_stream, _bound_version, _bound_commit,
               _bound_hash
          FROM unnest(_key_append, _key_stream, _key_subject, _key) WITH ORDINALITY
               AS u (append, stream, subject, key, number)
          LEFT JOIN LATERAL (
               SELECT i.fingerprint, i.position, i.events, i.stream, i.version
                 FROM {namespace}.idempotency_keys AS i
                WHERE i.partition = _partition AND i.tenant = _tenants[u.stream]
                  AND i.subject = u.subject AND i.key = u.key LIMIT 1) AS k ON true
          LEFT JOIN LATERAL (
               SELECT c.last_position, c.hash FROM {namespace}.commits AS c
                WHERE c.partition = _partition AND c.last_position >= k.position AND k.position > 0
                ORDER BY c.last_position LIMIT 1) AS c ON true;
        _now := _versions;
        _bound := array_fill(false, ARRAY[cardinality(_key)]);
        _answers := array_fill(0::smallint, ARRAY[cardinality(_upto)]);
        _failed := array_fill(0, ARRAY[cardinality(_upto)]);
        _twins := array_fill(0, ARRAY[cardinality(_upto)]);
        FOR _append IN 1 .. cardinality(_upto) LOOP
            _answer := 0;
            IF _key_append[_number] = _append THEN
                _twin := _key_twin[_number];
                WHILE _twin > 0 AND NOT _bound[_twin] LOOP
                    _twin := _key_twin[_twin];
                END LOOP;
                IF _found[_number] IS NOT NULL THEN
                    _answer := CASE WHEN _found[_number] = substr(_bytes, _key_start[_number], 32) THEN 2 ELSE 3 END;
                ELSIF _twin > 0 THEN
                    _twins[_append] := _key_append[_twin];
                    _answer := CASE WHEN substr(_bytes, _key_start[_twin], 32) = substr(_bytes, _key_start[_number], 32)
                               THEN 2 ELSE 3 END;
                END IF;
            END IF;
            _of_append := _check;
            WHILE _check_append[_check] = _append LOOP
                _stream_index := _check_stream[_check];
                _expected := _check_expected[_check];
                IF _answer = 0 AND (
                    (_check_depends[_check] > 0 AND _answers[_check_depends[_check]] <> 0)
                    OR NOT CASE _expected WHEN -1 THEN true WHEN -2 THEN _now[_stream_index] > 0
                                ELSE _now[_stream_index] = _expected END
                ) THEN
                    _answer := 1;
                    _failed[_append] := _stream_index;
                END IF;
                _check := _check + 1;
            END LOOP;
            WHILE _barred_append[_barred] = _append LOOP
                IF _answer = 0 AND _happened[_barred_item[_barred]] THEN
                    _answer := 1;
                    _failed[_append] := -1;
                END IF;
                _barred := _barred + 1;
            END LOOP;
            IF _answer = 0 AND _append = ANY (_matched) THEN
                _answer := 1;
                _failed[_append] := -1;
            END IF;
            IF _answer = 0 THEN
                FOR _each IN _of_append .. _check - 1 LOOP
                    _stream_index := _check_stream[_each];
                    _check_offset[_each] := _now[_stream_index] - _versions[_stream_index];
                    _now[_stream_index] := _now[_stream_index] + _check_events[_each];
                    _written := _written + _check_events[_each];
                END LOOP;
            END IF;
            WHILE _bars_append[_bars] = _append LOOP
                IF _answer = 0 THEN
                    _happened[_bars_item[_bars]] := true;
                END IF;
                _bars := _bars + 1;
            END LOOP;
            _answers[_append] := _answer;
            _upto[_append] := _written;
            IF _key_append[_number] = _append THEN
                _stream_index := _key_stream[_number];
                _bound[_number] := _answer = 0 AND _key_binds[_number];
                _key_offset[_number] := _now[_stream_index] - _versions[_stream_index];
                _number := _number + 1;
            END IF;
        END LOOP;
        SELECT array_agg(e.check_index ORDER BY e.number), array_agg(e.nth ORDER BY e.number),
               array_agg(e.id ORDER BY e.number), array_agg(e.type ORDER BY e.number),
               array_agg(e.schema_version ORDER BY e.number), array_agg(e.start ORDER BY e.number),
               array_agg(e.octets ORDER BY e.number), array_agg(_event_tags[e.number::integer] ORDER BY e.number)
          INTO _event_check, _event_nth, _event_id, _event_type, _event_schema_version, _event_start, _event_octets,
               _event_tags
          FROM unnest(_event_check, _event_nth, _event_id, _event_type, _event_schema_version, _event_start,
                      _event_octets)
               WITH ORDINALITY AS e (check_index, nth, id, type, schema_version, start, octets, number)
         WHERE _answers[_check_append[e.check_index]] = 0;
    END IF;

    IF cardinality(_event_check) > 0 THEN
        _last := _base + cardinality(_event_check);
        _micros := (extract(epoch FROM _recorded_at) * 1000000)::bigint;
        WITH written AS (
            INSERT INTO {namespace}.events AS e (position, version, recorded_at, id, partition, schema_version,
                                                 tenant, stream, type, data, metadata)
            SELECT _base + n.number, _versions[s.index] + _check_offset[n.check_index] + n.nth, _recorded_at, n.id,
                   _partition, n.schema_version, _tenants[s.index], _streams[s.index], n.type,
                   substr(_bytes, n.start, n.octets),
                   substr(_bytes, _metadata_start[s.append], _metadata_octets[s.append])
              FROM unnest(_event_check, _event_nth, _event_id, _event_type, _event_schema_version, _event_start,
                          _event_octets)
                   WITH ORDINALITY AS n (check_index, nth, id, type, schema_version, start, octets, number)
             CROSS JOIN LATERAL (
                   SELECT _check_stream[n.check_index] AS index, _check_append[n.check_index] AS append) AS s
            RETURNING e.position, octet_length(e.data) + octet_length(e.metadata) AS octets, sha256(convert_to(
                   concat_ws(':', e.partition, e.position, e.version, e.schema_version, _micros, octet_length(e.tenant),
                             octet_length(e.stream), octet_length(e.type), octet_length(e.data),
                             octet_length(e.metadata), e.id, e.tenant || e.stream || e.type),
                   'UTF8') || e.data || e.metadata) AS leaf
        ), leaves AS (
            SELECT w.position, w.octets, CASE WHEN _event_tags[(w.position - _base)::integer] <> ''
                   THEN sha256(w.leaf || convert_to(_event_tags[(w.position - _base)::integer], 'UTF8')) ELSE w.leaf END AS leaf
              FROM written AS w
        )
        INSERT INTO {namespace}.commits AS c (partition, first_position, last_position, recorded_at, octets, hash,
                                              previous_hash, marks)
        SELECT _partition, _base + 1, _last, _recorded_at, l.octets,
               sha256(_base_hash || convert_to(concat_ws(':', _partition, _base + 1, _last, _micros, ''), 'UTF8')
                      || l.leaves),
               _base_hash, l.marks
          FROM (SELECT string_agg(w.leaf, ''::bytea ORDER BY w.position) AS leaves,
                       string_agg(substr(w.leaf, 1, 4), ''::bytea ORDER BY w.position) AS marks,
                       sum(w.octets) AS octets
                  FROM leaves AS w) AS l
        RETURNING c.hash INTO _hash;
        IF _tagged THEN
            INSERT INTO {namespace}.tags (position, partition, tenant, tag, type)
            SELECT _base + n.number, _partition, _tenants[_check_stream[n.check_index]], t.tag, n.type
              FROM unnest(_event_check, _event_type, _event_tags) WITH ORDINALITY AS n (check_index, type, tags, number)
             CROSS JOIN LATERAL unnest(string_to_array(n.tags, U&'\001E')) AS t (tag);
        END IF;
        -- Under the lock nobody else adds streams, so new ones need no ON CONFLICT, which would cost them twice.
        IF 0 = ANY (_versions) THEN
            INSERT INTO {namespace}.streams (partition, version, first_position, last_position, tenant, stream)
            SELECT _partition, w.events, _base + w.first, _base + w.last, _tenants[w.index], _streams[w.index]
              FROM (SELECT _check_stream[n.check_index] AS index, count(*) AS events, min(n.number) AS first,
                           max(n.number) AS last
                      FROM unnest(_event_check) WITH ORDINALITY AS n (check_index, number) GROUP BY 1) AS w
             WHERE _versions[w.index] = 0;
        END IF;
        IF 0 < ANY (_versions) THEN
            INSERT INTO {namespace}.streams AS s (partition, version, first_position, last_position, tenant, stream)
            SELECT _partition, _versions[w.index] + w.events, 0, _base + w.last, _tenants[w.index], _streams[w.index]
              FROM (SELECT _check_stream[n.check_index] AS index, count(*) AS events, max(n.number) AS last
                      FROM unnest(_event_check) WITH ORDINALITY AS n (check_index, number) GROUP BY 1) AS w
             WHERE _versions[w.index] > 0
            ON CONFLICT (stream, tenant, partition)
            DO UPDATE SET version = excluded.version, last_position = excluded.last_position;
        END IF;
    END IF;

    IF cardinality(_key) > 0 THEN
        INSERT INTO {namespace}.idempotency_keys (partition, events, position, version, recorded_at, fingerprint,
                                                  tenant, subject, key, stream)
        SELECT _partition, k.events, _base + _upto[k.append], _versions[k.stream] + k.earlier, _recorded_at,
               substr(_bytes, k.start, 32), _tenants[k.stream], k.subject, k.key, _streams[k.stream]
          FROM unnest(_key_append, _key_stream, _key_subject, _key, _key_start, _key_binds, _key_events,
                      _key_offset) AS k (append, stream, subject, key, start, binds, events, earlier)
         WHERE k.binds AND (_answers IS NULL OR _answers[k.append] = 0);
    END IF;
END
$function$;
