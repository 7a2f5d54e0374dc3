-- page_end_v3: find where a page of whole commits ends; that is before the next arrival of a tenant, if it comes sooner.
--
--   _partition               the partition
--   _after, _hash            the commit that it follows; position 0 is the beginning
--   _events_max, _bytes_max  its bounds; one commit is always in it, however large
--
-- Returns  the position of the page's last event; `_after` when there is nothing new
-- Raises   ES002 the commit that it follows is not in this log
--          ES020 the page begins in the archive
-- Caller   event_store/sql/queries/read_page.sql
--
-- STABLE, so that it sees what the statement that calls it sees.
--
-- An arrival is a commit of its own, so a page that has one begins with it: who has to wait there for another partition
-- has nothing before it in hand. Mostly nobody has moved, and the look is one into an empty index.

CREATE FUNCTION {namespace}.page_end_v3(
    _partition integer, _after bigint, _hash bytea, _events_max integer, _bytes_max bigint
) RETURNS bigint
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
DECLARE
    _end bigint;
BEGIN
    IF _after > 0 AND NOT EXISTS (
        SELECT FROM {namespace}.commits AS c
         WHERE c.partition = _partition AND c.last_position = _after AND c.hash = _hash
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES002', MESSAGE = 'the known commit is not in this log';
    END IF;
    IF EXISTS (SELECT FROM {namespace}.archive_ends AS a
                WHERE a.partition = _partition AND a.last_position > _after) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES020', MESSAGE = 'the page begins in the archive';
    END IF;
    SELECT coalesce(max(n.last_position) FILTER (WHERE n.last_position - _after <= _events_max AND n.octets <= _bytes_max),
                    min(n.last_position), _after)
      INTO _end
      FROM (SELECT c.last_position, sum(c.octets) OVER (ORDER BY c.last_position) AS octets
              FROM {namespace}.commits AS c
             WHERE c.partition = _partition AND c.last_position > _after
             ORDER BY c.last_position LIMIT _events_max) AS n;
    RETURN least(_end, (SELECT min(m.arrived_position) - 1 FROM {namespace}.tenant_moves AS m
                         WHERE m.to_partition = _partition AND m.arrived_position > _after + 1));
END
$function$;
