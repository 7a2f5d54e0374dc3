-- archive_down: take the archive's tables away, if nothing was archived: without them those events would be lost.

DO $body$
BEGIN
    IF EXISTS (SELECT FROM {namespace}.archived_ranges) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES007', MESSAGE = 'a part of the log is archived';
    END IF;
END
$body$;

DROP FUNCTION {namespace}.stream_version_v2;
DROP FUNCTION {namespace}.page_end_v2;
DROP TABLE {namespace}.archive_ends, {namespace}.archived_ranges;
