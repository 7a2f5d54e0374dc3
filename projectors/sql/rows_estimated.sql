-- rows_estimated: about how many rows the tables of a schema have.
--
--   $1 schema
--
-- Caller   projectors/drift.py, DriftDetector._units

-- A table that was never analyzed tells nothing but its size.

SELECT sum(CASE WHEN c.reltuples < 0 THEN pg_relation_size(c.oid) / 400.0 ELSE c.reltuples END)::double precision
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
