-- subjects: the keys that personal data is encrypted with, and what became of them.
--
-- They stand on the log's first server, whichever partition a tenant lives in, so that a tenant can move and one
-- statement finds all keys. Every server has the tables; on the others they are empty.
--
--   subject_keys  one row per person and generation of their key, wrapped by a master key. `subject` is the sha256 of
--                 tenant, U+001F and the person's id: no id stands here. An erased generation keeps its row, without its
--                 key, for ever: what it had encrypted reads as erased, and the person's next data gets the next
--                 generation. The tenant '' has the secrets of the system itself. Row security by tenant does not
--                 concern it: every role looks for keys of many tenants at a time, by a hash that the tenant is in,
--                 and what stands here is wrapped.
--   key_epoch     one row: how often keys have been destroyed. It is locked while one is destroyed, so epochs
--                 appear in commit order, and a cache that has seen an epoch has seen all before it.
--   erasures      one row per erasure: who asked for it and why, and what has been scrubbed so far.

CREATE TABLE {namespace}.subject_keys (
    tenant_name  text        COLLATE "C" NOT NULL,
    subject      bytea       NOT NULL,
    generation   integer     NOT NULL,
    master       text        COLLATE "C",
    wrapped      bytea,
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at    timestamptz,
    erased_epoch bigint,
    CONSTRAINT subject_keys_key PRIMARY KEY (tenant_name, subject, generation),
    CONSTRAINT subject_keys_subject_hashed CHECK (octet_length(subject) = 32),
    CONSTRAINT subject_keys_there_or_erased CHECK (
        num_nonnulls(master, wrapped) = 2 AND num_nonnulls(erased_at, erased_epoch) = 0
        OR num_nonnulls(master, wrapped) = 0 AND num_nonnulls(erased_at, erased_epoch) = 2
    )
);

CREATE UNIQUE INDEX subject_keys_one_lives ON {namespace}.subject_keys (tenant_name, subject) WHERE wrapped IS NOT NULL;
CREATE INDEX subject_keys_erased ON {namespace}.subject_keys (erased_epoch) WHERE erased_epoch IS NOT NULL;
CREATE INDEX subject_keys_by_master ON {namespace}.subject_keys (master, tenant_name, subject) WHERE wrapped IS NOT NULL;

CREATE TABLE {namespace}.key_epoch (
    number integer NOT NULL DEFAULT 1,
    epoch  bigint  NOT NULL,
    CONSTRAINT key_epoch_key PRIMARY KEY (number),
    CONSTRAINT key_epoch_one_row CHECK (number = 1)
);

INSERT INTO {namespace}.key_epoch (epoch) VALUES (0);

CREATE TABLE {namespace}.erasures (
    tenant     text        COLLATE "C" NOT NULL,
    subject    bytea       NOT NULL,
    -- The last generation of the person's key that it destroyed.
    generation integer     NOT NULL,
    erased_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text        NOT NULL,
    reason     text        NOT NULL,
    -- What each step has found and removed, by the step's name; a step that is not there is still to be taken.
    steps      jsonb       NOT NULL DEFAULT '{}',
    ended_at   timestamptz,
    CONSTRAINT erasures_key PRIMARY KEY (tenant, subject, generation)
);

GRANT SELECT ON {namespace}.subject_keys, {namespace}.key_epoch
   TO {namespace}_appender, {namespace}_feed, {namespace}_query;
-- Keys are made by whoever seals; they are destroyed, and put under another master key, by the account of operators.
GRANT INSERT (tenant_name, subject, generation, master, wrapped) ON {namespace}.subject_keys
   TO {namespace}_appender, {namespace}_feed;
SELECT {namespace}.guard_every_table_v1();
