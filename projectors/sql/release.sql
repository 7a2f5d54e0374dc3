-- release: forget what is parked at a row that is right again, and have the live projector read the row anew.
--
--   $1 projection   $2 generation   $3 partitions that the tenant lives or has lived in
--   $4 tenant   $5 table   $6 key as a JSON list
--
-- Caller   projectors/mend.py, Mender.mend

WITH released AS (
    DELETE FROM {namespace}.parked_events
     WHERE kind = 'projection' AND consumer = $1 AND generation = $2
       AND tenant = $4 AND table_name = $5 AND key = $6
)
UPDATE {namespace}.checkpoints SET revision = revision + 1
 WHERE kind = 'projection' AND consumer = $1 AND generation = $2 AND partition = ANY ($3::integer[])
