-- drift_found: keep that a row was not what the log says.
--
--   $1 projection   $2 generation   $3 partition   $4 tenant   $5 table   $6 key as a JSON list   $7 what was wrong
--   $8 whether it was put right
--
-- Caller   projectors/drift.py, DriftDetector._mend

INSERT INTO {namespace}.drift_findings (projection, generation, partition, tenant, table_name, key, what, mended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8::boolean THEN clock_timestamp() END)
