-- open_epoch: say that a new life of the log begins, so that nothing kept elsewhere about the last one is believed.
--
--   $1 its number; null: the next   $2 who says so   $3 why   $4 what was found, as JSON
--   $5 the era that is to end; null: whichever it is
--
-- Returns  the number; no row where somebody else has opened it already
-- Caller   event_store/epochs.py

INSERT INTO {namespace}.epochs (epoch, actor, reason, report)
SELECT coalesce($1::integer, (SELECT coalesce(max(e.epoch), 0) + 1 FROM {namespace}.epochs AS e)), $2, $3, $4
 WHERE $5::text IS NULL OR $5 = {namespace}.era_v1()
ON CONFLICT ON CONSTRAINT epochs_key DO NOTHING
RETURNING epoch
