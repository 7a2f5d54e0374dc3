-- log_down: take an empty log away. One that holds events stays: going back would be a loss, not a step.

DO $body$
BEGIN
    IF EXISTS (SELECT FROM {namespace}.events) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES007', MESSAGE = 'the log is not empty';
    END IF;
END
$body$;

DROP FUNCTION {namespace}.read_tails_v1;
DROP FUNCTION {namespace}.page_end_v1;
DROP FUNCTION {namespace}.settle_v1;
DROP FUNCTION {namespace}.append_batch_v1;
DROP FUNCTION {namespace}.create_partition_v1;
DROP FUNCTION {namespace}.ensure_ranges_v1;
DROP TABLE {namespace}.void_calls, {namespace}.tenant_partitions, {namespace}.idempotency_keys, {namespace}.streams,
           {namespace}.events, {namespace}.commits, {namespace}.partitions;
DROP FUNCTION {namespace}.guard_placement_v1;
DROP FUNCTION {namespace}.guard_v1;
DROP FUNCTION {namespace}.refuse_change_v1;
