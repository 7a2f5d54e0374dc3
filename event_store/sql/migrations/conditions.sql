-- conditions: what events are tagged with, and keys that go by the day.
--
--   tags               one row per event and tag, for conditions and for reading by tag. The commit's hash covers them.
--                      Never archived, like streams.
--   idempotency_keys   as in log.sql, but in a table a day, so that old ones are dropped and not deleted row by row.
--                      That no key is there twice is seen to under the partition's lock, since an index over all days
--                      would have to hold the time too.

CREATE TABLE {namespace}.tags (
    position  bigint  NOT NULL,
    partition integer NOT NULL,
    tenant    text    COLLATE "C" NOT NULL,
    tag       text    COLLATE "C" NOT NULL,
    type      text    COLLATE "C" NOT NULL,
    CONSTRAINT tags_key PRIMARY KEY (tag, tenant, position, partition)
) PARTITION BY LIST (partition);

-- They stand in the order of positions, so the smallest of indexes will do to find those of a range.
CREATE INDEX tags_by_position ON {namespace}.tags USING brin (position);

SELECT {namespace}.guard_v1('{namespace}.tags');

ALTER TABLE {namespace}.idempotency_keys RENAME TO idempotency_keys_v1;
ALTER TABLE {namespace}.idempotency_keys_v1 RENAME CONSTRAINT idempotency_keys_key TO idempotency_keys_v1_key;
ALTER INDEX {namespace}.idempotency_keys_by_time RENAME TO idempotency_keys_v1_by_time;

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
    CONSTRAINT idempotency_keys_key PRIMARY KEY (key, subject, tenant, recorded_at, partition)
) PARTITION BY LIST (partition);

DO $body$
DECLARE
    _partition integer;
BEGIN
    FOR _partition IN SELECT p.partition FROM {namespace}.partitions AS p ORDER BY p.partition LOOP
        EXECUTE format('ALTER TABLE {namespace}.%I RENAME TO %I',
            'idempotency_keys_p' || _partition, 'idempotency_keys_v1_p' || _partition);
        PERFORM {namespace}.add_to_partition_v1(_partition, (
            SELECT min(k.recorded_at) FROM {namespace}.idempotency_keys_v1 AS k WHERE k.partition = _partition));
    END LOOP;
END
$body$;

INSERT INTO {namespace}.idempotency_keys (partition, events, position, version, recorded_at, fingerprint, tenant, subject,
                                          key, stream)
SELECT k.partition, k.events, k.position, k.version, k.recorded_at, k.fingerprint, k.tenant, k.subject, k.key, k.stream
  FROM {namespace}.idempotency_keys_v1 AS k;

DROP TABLE {namespace}.idempotency_keys_v1;
