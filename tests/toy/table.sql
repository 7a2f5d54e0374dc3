-- account-balances: one row for each account of the toy domain.
--
--   doc          the row as JSON bytes: what readers are served and what the next fold starts from
--   position     of the last event folded in

CREATE TABLE {schema}.rows (
    tenant        text COLLATE "C" NOT NULL,
    account_id    text COLLATE "C" NOT NULL,
    doc           bytea NOT NULL,
    position      bigint NOT NULL,
    commit_hash   bytea NOT NULL,
    balance_cents bigint NOT NULL,
    CONSTRAINT rows_key PRIMARY KEY (tenant, account_id)
);
