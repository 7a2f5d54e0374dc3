-- drift_checked: take note that a slice was compared; what was noted of other generations and slicings goes.
--
--   $1 projection   $2 generation   $3 partition   $4 slice   $5 slices   $6 rows   $7 seconds   $8 how many differed
--
-- Caller   projectors/drift.py, DriftDetector.look

WITH former AS (
    DELETE FROM {namespace}.drift_checks AS d
     WHERE d.projection = $1 AND d.partition = $3 AND (d.generation <> $2 OR d.slices <> $5)
)
INSERT INTO {namespace}.drift_checks AS d (
    projection, generation, partition, slice, slices, checked_at, rows, seconds, differed)
VALUES ($1, $2, $3, $4, $5, clock_timestamp(), $6, $7, $8)
ON CONFLICT ON CONSTRAINT drift_checks_key DO UPDATE
   SET checked_at = excluded.checked_at, rows = excluded.rows, seconds = excluded.seconds,
       differed = d.differed + excluded.differed
