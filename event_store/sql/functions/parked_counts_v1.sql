-- parked_counts_v1: how many events each consumer has parked.
--
-- Returns  one row per consumer, generation and partition that has any
-- Caller   event_store/sql/queries/status_checkpoints.sql
--
-- SECURITY DEFINER: the number over all tenants is an operator's business and tells nothing of any of them, so who
-- answers queries may know it without being shown a row.

CREATE FUNCTION {namespace}.parked_counts_v1()
RETURNS TABLE (kind text, consumer text, generation integer, partition integer, parked bigint)
LANGUAGE sql STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT p.kind, p.consumer, p.generation, p.partition, count(*)
      FROM {namespace}.parked_events AS p
     GROUP BY p.kind, p.consumer, p.generation, p.partition
$function$;

REVOKE EXECUTE ON FUNCTION {namespace}.parked_counts_v1 FROM PUBLIC;
