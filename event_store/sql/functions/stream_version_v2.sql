-- stream_version_v2: find the last version of a stream that lies within bounds by position or time.
--
--   _partition, _tenant, _stream  the stream
--   _until_position, _until_time  the last position and time that are within; null: no such bound
--   _before_time                  the first time that is not within any more; null: no such bound
--
-- Returns  the version; 0 when the whole stream is out of bounds, or does not exist. A version whose event is not in the
--          tables is archived, and counts as within: what is asked is which of those that are here are within
-- Caller   event_store/sql/queries/read_stream.sql, read_stream_backwards.sql
--
-- Position and time rise with the version, so a few look-ups by the stream's own index find it, however long the stream
-- is; the newest is looked at first, since bounds are mostly recent. STABLE, so that it sees what the statement that
-- calls it sees.

CREATE FUNCTION {namespace}.stream_version_v2(
    _partition integer, _tenant text, _stream text, _until_position bigint, _until_time timestamptz,
    _before_time timestamptz
) RETURNS bigint
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _low    bigint := 0;
    _high   bigint;
    _middle bigint;
    _within boolean;
BEGIN
    SELECT s.version INTO _high FROM {namespace}.streams AS s
     WHERE s.partition = _partition AND s.tenant = _tenant AND s.stream = _stream;
    _high := coalesce(_high, 0);
    _middle := _high;
    WHILE _low < _high LOOP
        SELECT coalesce(e.position <= _until_position, true) AND coalesce(e.recorded_at <= _until_time, true)
               AND coalesce(e.recorded_at < _before_time, true)
          INTO _within
          FROM {namespace}.events AS e
         WHERE e.partition = _partition AND e.tenant = _tenant AND e.stream = _stream AND e.version = _middle;
        IF _within IS NOT FALSE THEN
            _low := _middle;
        ELSE
            _high := _middle - 1;
        END IF;
        _middle := (_low + _high + 1) / 2;
    END LOOP;
    RETURN _low;
END
$function$;
