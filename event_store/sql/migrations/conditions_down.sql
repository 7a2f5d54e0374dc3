-- conditions_down: take away what conditions.sql made, and have the keys in one table a partition again.
--
-- Raises   ES007 an event has tags: going back would lose them

DO $body$
BEGIN
    IF EXISTS (SELECT FROM {namespace}.tags) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES007', MESSAGE = 'the log is not empty';
    END IF;
END
$body$;

DROP FUNCTION {namespace}.create_partition_v2;
DROP FUNCTION {namespace}.add_to_partition_v1;
DROP FUNCTION {namespace}.read_tagged_v1;
DROP FUNCTION {namespace}.append_batch_v2;
DROP TABLE {namespace}.tags;

ALTER TABLE {namespace}.idempotency_keys RENAME TO idempotency_keys_v2;
ALTER TABLE {namespace}.idempotency_keys_v2 RENAME CONSTRAINT idempotency_keys_key TO idempotency_keys_v2_key;

CREATE TABLE {namespace}.idempotency_keys (
    partition   integer     NOT NULL,
    events      integer     NOT NULL,
    position    bigint      NOT NULL,
    version     bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    fingerprint bytea       NOT NULL,
    tenant      text        COLLATE "C" NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    key         text        COLLATE "C" NOT NULL,
    stream      text        COLLATE "C" NOT NULL,
    CONSTRAINT idempotency_keys_key PRIMARY KEY (key, subject, tenant, partition)
) PARTITION BY LIST (partition);

CREATE INDEX idempotency_keys_by_time ON {namespace}.idempotency_keys USING brin (recorded_at);

DO $body$
DECLARE
    _partition integer;
BEGIN
    FOR _partition IN SELECT p.partition FROM {namespace}.partitions AS p ORDER BY p.partition LOOP
        EXECUTE format('ALTER TABLE {namespace}.%I RENAME TO %I',
            'idempotency_keys_p' || _partition, 'idempotency_keys_v2_p' || _partition);
        EXECUTE format('CREATE TABLE {namespace}.%I PARTITION OF {namespace}.idempotency_keys FOR VALUES IN (%s)',
            'idempotency_keys_p' || _partition, _partition);
    END LOOP;
END
$body$;

INSERT INTO {namespace}.idempotency_keys (partition, events, position, version, recorded_at, fingerprint, tenant, subject,
                                          key, stream)
SELECT k.partition, k.events, k.position, k.version, k.recorded_at, k.fingerprint, k.tenant, k.subject, k.key, k.stream
  FROM {namespace}.idempotency_keys_v2 AS k;

DROP TABLE {namespace}.idempotency_keys_v2;
DROP FUNCTION {namespace}.ensure_key_days_v1;
