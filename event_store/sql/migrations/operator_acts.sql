-- operator_acts: who has had what done to the read side, when and why.

CREATE TABLE {namespace}.operator_acts (
    id      bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor   text        NOT NULL,
    act     text        NOT NULL,
    subject text        NOT NULL,
    reason  text,
    CONSTRAINT operator_acts_key PRIMARY KEY (id)
);
