-- reading: where in a partition each type of event, and each tenant, occurs. An append pays nothing for it: housekeeping
-- fills it behind the log, in whole blocks of 1,024 positions, and a filtered read scans what is above (docs/decisions/0017).
--
--   occurrences         one row per name and block in which it occurs: the places in the block, from 0 to 1,023, in order.
--                       Rows are only added. Positions of block b are 1,024 b up to 1,024 b + 1,023.
--   occurrences_filled  per partition, up to which position occurrences are filled, and the commit that this position
--                       belongs to. When the log does not have that commit any more, it has lost a tail, and
--                       occurrences count for nothing until they are filled anew.
--
-- Everything here can be made again from the log, and may be deleted at any time (both tables together).

CREATE TABLE {namespace}.occurrences (
    partition integer    NOT NULL,
    block     integer    NOT NULL,
    kind      text       COLLATE "C" NOT NULL,
    name      text       COLLATE "C" NOT NULL,
    places    smallint[] NOT NULL,
    CONSTRAINT occurrences_key PRIMARY KEY (name, kind, partition, block),
    CONSTRAINT occurrences_kind_known CHECK (kind IN ('type', 'tenant'))
);

CREATE TABLE {namespace}.occurrences_filled (
    partition       integer NOT NULL,
    position        bigint  NOT NULL,
    commit_position bigint  NOT NULL,
    commit_hash     bytea   NOT NULL,
    CONSTRAINT occurrences_filled_key PRIMARY KEY (partition),
    CONSTRAINT occurrences_filled_block_whole CHECK (position = 0 OR position % 1024 = 1023)
);
