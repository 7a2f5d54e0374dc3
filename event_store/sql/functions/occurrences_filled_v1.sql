-- occurrences_filled_v1: say up to which position occurrences may be relied on.
--
--   _partition  the partition
--
-- Returns  the position; 0 when there are none, or when they are of a tail that the log has lost
-- Caller   fill_occurrences_v1, read_filtered_v1
--
-- STABLE, so that it sees what the statement that calls it sees.

CREATE FUNCTION {namespace}.occurrences_filled_v1(_partition integer) RETURNS bigint
LANGUAGE sql STABLE
AS $function$
    SELECT coalesce(max(f.position), 0) FROM {namespace}.occurrences_filled AS f
     WHERE f.partition = _partition
       AND EXISTS (SELECT FROM {namespace}.commits AS c
                    WHERE c.partition = _partition AND c.last_position = f.commit_position AND c.hash = f.commit_hash)
$function$;
