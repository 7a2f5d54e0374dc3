-- read_filtered_v1: what follows a place in a partition's history and matches a filter, out of whole commits only.
--
--   _partition               the partition
--   _after, _hash            the commit that it follows; position 0 is the beginning
--   _types                   the types of events to return; null: any
--   _tags                    the tags that events carry, all of them, of `_tenant`; null: any or none
--   _tenant                  whose events to return; null: anybody's
--   _events_max, _bytes_max  bounds of what is returned; the first commit with a match comes whole, however large
--
-- Returns  the events in order of position, each with the last commit that was looked at; one row without an event when
--          nothing matched; none when nothing follows. An event of which only the position is given is not in the log
-- Raises   ES002 the commit that it follows is not in this log
-- Caller   event_store/sql/queries/read_filtered.sql
--
-- Tags have a table of their own, which is as new as the log: it goes from one position that may carry all of them to the
-- next. Without tags, up to where occurrences are filled it goes from block to block in which all that is asked for occurs; above, it scans
-- events by position. It takes a bounded number of steps and at least one commit, so a call may end early, without a
-- match. Steps get wider as long as they find little: a rare match is found by few, and a frequent one brings no more
-- places than are needed.
--
-- STABLE, so that all of it sees one moment: what is filled while it runs is not half seen.

CREATE FUNCTION {namespace}.read_filtered_v1(
    _partition integer, _after bigint, _hash bytea, _types text[], _tags text[], _tenant text, _events_max integer, _bytes_max bigint
) RETURNS TABLE (
    "position" bigint, tenant text, stream text, version bigint, id text, type text, schema_version integer,
    data bytea, metadata bytea, recorded_at timestamptz, end_position bigint, end_hash bytea
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _steps_max     CONSTANT integer := 32;
    _blocks_max    CONSTANT integer := 64;
    _scan_max      CONSTANT integer := 4096;
    _lists         CONSTANT integer := (_types IS NOT NULL)::integer + (_tenant IS NOT NULL)::integer;
    _head          bigint;
    _filled        bigint;
    _whole         bigint;
    _end           bigint;
    _looked        bigint := _after;
    _blocks        integer := 1;
    _rows          integer := least(_events_max + 1, 4096);
    _next          bigint;
    _of_types      integer;
    _of_tenant     integer;
    _block         integer;
    _upto          bigint;
    _more          bigint[];
    _found         bigint[] := '{}';
BEGIN
    IF _after > 0 AND NOT EXISTS (
        SELECT FROM {namespace}.commits AS c
         WHERE c.partition = _partition AND c.last_position = _after AND c.hash = _hash
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES002', MESSAGE = 'the known commit is not in this log';
    END IF;
    SELECT max(c.last_position), min(c.last_position) INTO _head, _whole
      FROM {namespace}.commits AS c WHERE c.partition = _partition AND c.last_position > _after;
    IF _head IS NULL THEN
        RETURN;
    END IF;
    _filled := {namespace}.occurrences_filled_v1(_partition);

    FOR _step IN 1 .. 2147483647 LOOP
        EXIT WHEN _looked >= _head;
        EXIT WHEN _looked >= _whole AND (_step > _steps_max OR cardinality(_found) > _events_max);
        IF _tags IS NOT NULL THEN
            SELECT max(coalesce(n.position, _head + 1)) INTO _next
              FROM unnest(_tags) AS t (tag)
              LEFT JOIN LATERAL (
                   SELECT g.position FROM {namespace}.tags AS g
                    WHERE g.partition = _partition AND g.tenant = _tenant AND g.tag = t.tag AND g.position > _looked
                    ORDER BY g.position LIMIT 1) AS n ON true;
            SELECT array_agg(q.position ORDER BY q.position) FILTER (WHERE q.is_match),
                   CASE WHEN count(*) < _rows THEN _head ELSE max(q.position) END
              INTO _more, _upto
              FROM (SELECT g.position,
                           (_types IS NULL OR g.type = ANY (_types)) AND cardinality(_tags) - 1 = (
                               SELECT count(*) FROM unnest(_tags[2:]) AS t (tag)
                                CROSS JOIN LATERAL (
                                      SELECT FROM {namespace}.tags AS n
                                       WHERE n.partition = _partition AND n.tenant = _tenant AND n.tag = t.tag
                                         AND n.position = g.position OFFSET 0) AS n) AS is_match
                      FROM {namespace}.tags AS g
                     WHERE g.partition = _partition AND g.tenant = _tenant AND g.tag = _tags[1]
                       AND g.position >= _next AND g.position <= _head
                     ORDER BY g.position LIMIT _rows) AS q;
            IF coalesce(cardinality(_more), 0) * 4 <= _events_max THEN
                _rows := least(_rows * 2, _scan_max);
            END IF;
        ELSIF _looked < _filled THEN
            _block := (_looked + 1) / 1024;
            SELECT min(o.block) INTO _of_types
              FROM unnest(_types) AS t (name)
             CROSS JOIN LATERAL (
                   SELECT n.block FROM {namespace}.occurrences AS n
                    WHERE n.partition = _partition AND n.kind = 'type' AND n.name = t.name AND n.block >= _block
                    ORDER BY n.block LIMIT 1) AS o;
            SELECT n.block INTO _of_tenant FROM {namespace}.occurrences AS n
             WHERE n.partition = _partition AND n.kind = 'tenant' AND n.name = _tenant AND n.block >= _block
             ORDER BY n.block LIMIT 1;
            IF _of_types IS NULL AND _types IS NOT NULL OR _of_tenant IS NULL AND _tenant IS NOT NULL THEN
                _looked := _filled;
                CONTINUE;
            END IF;
            _block := greatest(_of_types, _of_tenant);
            _upto := least((_block + _blocks)::bigint * 1024 - 1, _filled);
            SELECT array_agg(q.position ORDER BY q.position) INTO _more
              FROM (SELECT o.block::bigint * 1024 + p.place AS position
                      FROM (SELECT 'type' AS kind, t.name FROM unnest(_types) AS t (name)
                            UNION ALL SELECT 'tenant', _tenant) AS w
                     CROSS JOIN LATERAL (
                           SELECT n.block, n.places FROM {namespace}.occurrences AS n
                            WHERE n.partition = _partition AND n.kind = w.kind AND n.name = w.name
                              AND n.block >= _block AND n.block < _block + _blocks
                           OFFSET 0) AS o
                     CROSS JOIN unnest(o.places) AS p (place)
                     GROUP BY 1 HAVING count(*) = _lists) AS q
             WHERE q.position > _looked;
            IF coalesce(cardinality(_more), 0) * 4 <= _events_max THEN
                _blocks := least(_blocks * 2, _blocks_max);
            END IF;
        ELSE
            _upto := least(_looked + _scan_max, _head);
            SELECT array_agg(e.position ORDER BY e.position) INTO _more
              FROM {namespace}.events AS e
             WHERE e.partition = _partition AND e.position > _looked AND e.position <= _upto
               AND (_types IS NULL OR e.type = ANY (_types)) AND (_tenant IS NULL OR e.tenant = _tenant);
        END IF;
        _found := _found || _more;
        _looked := _upto;
    END LOOP;

    -- The end is the last commit that was looked at wholly and of which all matches, with those before, are within bounds;
    -- the first match's commit is in it in any case, once it was looked at wholly.
    SELECT max(c.last_position) INTO _end FROM {namespace}.commits AS c
     WHERE c.partition = _partition AND c.last_position <= _looked;
    IF cardinality(_found) > _events_max THEN
        SELECT CASE WHEN c.first_position > _found[1] THEN c.first_position - 1 ELSE least(c.last_position, _end) END
          INTO _end
          FROM {namespace}.commits AS c
         WHERE c.partition = _partition AND c.last_position >= _found[_events_max + 1]
         ORDER BY c.last_position LIMIT 1;
    END IF;
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT p.position, e.tenant, e.stream, e.version, e.id, e.type, e.schema_version, e.data, e.metadata,
               e.recorded_at, c.first_position, octet_length(e.data)::bigint + octet_length(e.metadata) AS octets
          FROM unnest(_found) AS p (position)
          LEFT JOIN LATERAL (
               SELECT n.* FROM {namespace}.events AS n
                WHERE n.partition = _partition AND n.position = p.position OFFSET 0) AS e ON true
         CROSS JOIN LATERAL (
               SELECT n.first_position FROM {namespace}.commits AS n
                WHERE n.partition = _partition AND n.last_position >= p.position
                ORDER BY n.last_position LIMIT 1) AS c
         WHERE p.position <= _end
    ), sizes AS (
        SELECT f.first_position, row_number() OVER (ORDER BY f.first_position) AS number,
               sum(sum(f.octets)) OVER (ORDER BY f.first_position) AS octets
          FROM found AS f GROUP BY f.first_position
    ), last AS MATERIALIZED (
        SELECT c.last_position, c.hash FROM {namespace}.commits AS c
         WHERE c.partition = _partition AND c.last_position = coalesce(
               (SELECT min(s.first_position) - 1 FROM sizes AS s WHERE s.number > 1 AND s.octets > _bytes_max), _end)
    )
    SELECT f.position, f.tenant, f.stream, f.version, f.id::text, f.type, f.schema_version, f.data, f.metadata,
           f.recorded_at, l.last_position, l.hash
      FROM last AS l
      LEFT JOIN found AS f ON f.position <= l.last_position
     ORDER BY f.position;
END
$function$;
