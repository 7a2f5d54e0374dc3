-- moves_down: take away what moves.sql made, if no tenant has moved: without it nobody would find what it left behind.
--
-- Raises   ES007 a tenant has moved

DO $body$
BEGIN
    IF EXISTS (SELECT FROM {namespace}.move_changes AS m WHERE m.changes > 0) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES007', MESSAGE = 'a tenant has moved';
    END IF;
END
$body$;

DROP TRIGGER guard_placement ON {namespace}.tenant_partitions;
CREATE TRIGGER guard_placement BEFORE INSERT OR UPDATE OR DELETE ON {namespace}.tenant_partitions
FOR EACH ROW EXECUTE FUNCTION {namespace}.guard_placement_v1();
DROP FUNCTION {namespace}.page_end_v3;
DROP FUNCTION {namespace}.note_move_v1;
DROP FUNCTION {namespace}.guard_placement_v2;
DROP TABLE {namespace}.move_changes, {namespace}.moved_keys, {namespace}.tenant_moves;
