-- heads: what tells one log, and one life of it, from another.
--
--   log_identity  one row: the log's name, the same on all of its servers and in every copy of them. Signed heads
--                 bear it, so those of another log are told from those that this one has lost.
--   epochs        the log's lives: one row for each time that it was restored or had lost its end, and was taken up
--                 again by `everfold recover`. What the report says was lost stays lost; it is kept for ever.

CREATE TABLE {namespace}.log_identity (
    id      uuid        NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    one     boolean     NOT NULL DEFAULT true,
    CONSTRAINT log_identity_key PRIMARY KEY (one),
    CONSTRAINT log_identity_one CHECK (one)
);

CREATE TABLE {namespace}.epochs (
    epoch     integer     NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor     text        NOT NULL,
    reason    text,
    report    text        NOT NULL,
    CONSTRAINT epochs_key PRIMARY KEY (epoch),
    CONSTRAINT epochs_positive CHECK (epoch > 0)
);
