-- drift_ages: for how long slices of live rows have not been compared with their fold.
--
--   $1 projections   $2 partitions
--
-- Returns  them, with the number of their rows
-- Caller   projectors/drift.py, DriftDetector._units

SELECT d.projection, d.generation, d.partition, d.slice, d.slices, d.rows,
       greatest(0, extract(epoch FROM clock_timestamp() - d.checked_at))::double precision AS age
  FROM {namespace}.drift_checks AS d WHERE d.projection = ANY ($1::text[]) AND d.partition = ANY ($2::integer[])
