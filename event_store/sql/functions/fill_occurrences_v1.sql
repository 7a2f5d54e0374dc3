-- fill_occurrences_v1: note where types and tenants occur in the log's next whole blocks.
--
--   _partition   the partition
--   _events_max  how many events to look at, at the most; a block at the least
--
-- Returns  how many events were looked at: 0 when there is no whole block to add, or when somebody else is at it
-- Caller   event_store/postgres.py, PostgresLog.fill_occurrences
--
-- It locks nothing that an append waits for. Occurrences of a lost tail go first, with all others of the partition:
-- they may name events that have come to be others.

CREATE FUNCTION {namespace}.fill_occurrences_v1(_partition integer, _events_max integer) RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _noted  bigint;
    _filled bigint;
    _head   bigint;
    _upto   bigint;
BEGIN
    INSERT INTO {namespace}.occurrences_filled (partition, position, commit_position, commit_hash)
    VALUES (_partition, 0, 0, '') ON CONFLICT DO NOTHING;
    SELECT f.position INTO _noted FROM {namespace}.occurrences_filled AS f
     WHERE f.partition = _partition FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    _filled := {namespace}.occurrences_filled_v1(_partition);
    SELECT coalesce(max(c.last_position), 0) INTO _head
      FROM {namespace}.commits AS c WHERE c.partition = _partition;
    _upto := (least(_head, _filled + greatest(_events_max, 1024)) + 1) / 1024 * 1024 - 1;
    IF _filled < _noted THEN
        DELETE FROM {namespace}.occurrences AS o WHERE o.partition = _partition;
        UPDATE {namespace}.occurrences_filled AS f SET position = 0, commit_position = 0, commit_hash = ''
         WHERE f.partition = _partition;
    END IF;
    IF _upto <= _filled THEN
        RETURN 0;
    END IF;
    INSERT INTO {namespace}.occurrences (partition, block, kind, name, places)
    SELECT _partition, e.position / 1024, CASE WHEN e.type IS NULL THEN 'tenant' ELSE 'type' END,
           coalesce(e.type, e.tenant), e.places
      FROM (SELECT n.position / 1024 * 1024 AS position, n.type, n.tenant,
                   array_agg((n.position % 1024)::smallint ORDER BY n.position) AS places
              FROM {namespace}.events AS n
             WHERE n.partition = _partition AND n.position > _filled AND n.position <= _upto
             GROUP BY GROUPING SETS ((n.position / 1024 * 1024, n.type), (n.position / 1024 * 1024, n.tenant))) AS e;
    UPDATE {namespace}.occurrences_filled AS f
       SET position = _upto, commit_position = c.last_position, commit_hash = c.hash
      FROM (SELECT c.last_position, c.hash FROM {namespace}.commits AS c
             WHERE c.partition = _partition AND c.last_position >= _upto ORDER BY c.last_position LIMIT 1) AS c
     WHERE f.partition = _partition;
    RETURN _upto - _filled;
END
$function$;
