-- append_batch: call append_batch_v1; its header says what the arguments are.
--
-- Caller   event_store/postgres.py, PostgresLog.append_batch

SELECT * FROM {namespace}.append_batch_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
    $26, $27, $28, $29)
