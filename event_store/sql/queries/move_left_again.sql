-- move_left_again: take down where a fence stands that was lost and put up again; nothing where that is known.
--
--   $1 tenant, $2 number of the move   $3 the fence's position, $4 commit and $5 time
--
-- Caller   event_store/moving.py, Mover._note, after note_move_v1, which changes no fence

WITH changed AS (
     UPDATE {namespace}.tenant_moves AS m SET left_position = $3, left_hash = $4, left_at = $5
      WHERE m.tenant = $1 AND m.number = $2 AND (m.left_position, m.left_hash) IS DISTINCT FROM ($3, $4)
     RETURNING m.number)
UPDATE {namespace}.move_changes AS c SET changes = c.changes + 1 WHERE EXISTS (SELECT FROM changed)
