-- snapshots: states of streams, saved so that not all of a long stream has to be folded again. Whoever folds one saves
-- it, off the path of any command; every row may be deleted at any time (docs/decisions/0018).
--
--   snapshots            the newest saved state of a stream, of each shape. shape: what the state is like and which version
--                        of its decider made it, so that another program never takes it for its own. It rests on a commit:
--                        when the log does not have that commit any more, the state is of a lost tail and is not read.
--   forgotten_snapshots  streams of which no state may be saved any more, because personal data in them was erased.

CREATE TABLE {namespace}.snapshots (
    partition       integer     NOT NULL,
    decider_version integer     NOT NULL,
    version         bigint      NOT NULL,
    commit_position bigint      NOT NULL,
    written_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant          text        COLLATE "C" NOT NULL,
    stream          text        COLLATE "C" NOT NULL,
    shape           bytea       NOT NULL,
    commit_hash     bytea       NOT NULL,
    state           bytea       NOT NULL,
    CONSTRAINT snapshots_key PRIMARY KEY (stream, tenant, shape, partition),
    CONSTRAINT snapshots_of_something CHECK (version > 0)
);

CREATE TABLE {namespace}.forgotten_snapshots (
    partition    integer     NOT NULL,
    forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant       text        COLLATE "C" NOT NULL,
    stream       text        COLLATE "C" NOT NULL,
    CONSTRAINT forgotten_snapshots_key PRIMARY KEY (stream, tenant, partition)
);
