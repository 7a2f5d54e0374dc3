-- forget: drop idempotency keys and forbidden calls that are older than anybody may rely on.
--
--   $1 partition   $2 how long they are kept
--
-- Returns  how many keys went
-- Caller   event_store/postgres.py, PostgresLog.keep_house

WITH calls AS (
    DELETE FROM {namespace}.void_calls AS v WHERE v.partition = $1 AND v.voided_at < now() - $2::interval
), keys AS (
    DELETE FROM {namespace}.idempotency_keys AS k WHERE k.partition = $1 AND k.recorded_at < now() - $2::interval
    RETURNING 1
)
SELECT count(*) FROM keys
