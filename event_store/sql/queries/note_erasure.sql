-- note_erasure: put down what a step of an erasure has found; the last one ends it.
--
--   $1 tenant   $2 subject   $3 generation   $4 step   $5 what was found, as JSON   $6 whether it is the last
--
-- Caller   event_store/erasures.py, Erasures.note

UPDATE {namespace}.erasures
   SET steps = steps || jsonb_build_object($4::text, $5::text::jsonb),
       ended_at = CASE WHEN $6::boolean THEN clock_timestamp() END
 WHERE tenant = $1 AND subject = $2 AND generation = $3
