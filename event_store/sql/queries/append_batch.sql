-- append_batch: call append_batch_v2; its header says what the arguments are.
--
-- Names come joined by the character U+001F and numbers as array literals: for a driver this is much less work than
-- arrays are, and for the server hardly more.
--
-- Caller   event_store/postgres.py, PostgresLog.append_batch

SELECT * FROM {namespace}.append_batch_v2(
    $1, $2, $3, $4,
    string_to_array($5, U&'\001F'), string_to_array($6, U&'\001F'),
    $7, $8::text::integer[], $9::text::integer[], $10::text::integer[],
    $11::text::integer[], $12::text::integer[], $13::text::bigint[], $14::text::integer[], $15::text::integer[],
    $16::text::integer[],
    $17::text::integer[], $18::text::integer[], $19::text::uuid[], string_to_array($20, U&'\001F'),
    $21::text::integer[], $22::text::integer[], $23::text::integer[],
    $24::text::integer[], $25::text::integer[], string_to_array($26, U&'\001F'), string_to_array($27, U&'\001F'),
    $28::text::integer[], $29::text::boolean[], $30::text::integer[], $31::text::integer[], $32::text::integer[],
    string_to_array($33, U&'\001F'), $34::text::integer[], $35::text::integer[], $36::text::bigint[],
    string_to_array($37, U&'\001F'), string_to_array($38, U&'\001F'), $39::text::integer[], $40::text::integer[],
    $41::text::integer[], $42::text::integer[])
