-- settle: call settle_v1; its header says what the arguments are.
--
-- Caller   event_store/postgres.py, PostgresLog.settle

SELECT * FROM {namespace}.settle_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
