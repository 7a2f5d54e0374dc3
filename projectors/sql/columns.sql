-- columns: what a generation's tables look like.
--
--   $1 schema
--
-- Returns  one row per column in order: its table, name, type as SQL writes it, whether it is an array
-- Caller   projectors/tables.py, read_tables

SELECT c.relname AS table_name, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       t.typcategory = 'A' AS is_array
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
 WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND a.attgenerated = '' AND a.attidentity = ''
 ORDER BY c.relname, a.attnum
