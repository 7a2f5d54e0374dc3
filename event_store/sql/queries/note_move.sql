-- note_move: call note_move_v1; its header says what the arguments are.
--
-- Caller   event_store/moving.py

SELECT {namespace}.note_move_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)
