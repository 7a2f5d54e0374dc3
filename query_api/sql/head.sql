-- head: what a read rests on, to stand in the same statement as the read itself.
--
--   :tenant, :partition   whose answer it is, and where the tenant's events are
--   :projections          names of the projections that are read
--   :table_name, :key     of a document: only events parked for this row count; null: any of the tenant's
--
-- Returns  one text: for each projection, by name, `name,generation,position,commit hash (8 hex digits),the tenant's
--          own last applied position,position of the first parked event (0: none)`, separated by `;`
-- Caller   query_api/statements.py

SELECT string_agg(
    concat_ws(
        ',', p.name, p.generation, coalesce(c.position, 0), coalesce(encode(substr(c.commit_hash, 1, 4), 'hex'), '00000000'),
        coalesce(a.position, 0), coalesce(e.position, 0)
    ),
    ';' ORDER BY p.name COLLATE "C"
)
FROM {namespace}.projections AS p
LEFT JOIN {namespace}.checkpoints AS c
    ON c.kind = 'projection' AND c.consumer = p.name AND c.generation = p.generation AND c.partition = :partition::integer
LEFT JOIN {namespace}.applied_by_tenant AS a
    ON a.tenant = :tenant::text AND a.projection = p.name AND a.generation = p.generation
LEFT JOIN LATERAL (
    SELECT min(parked.position) AS position
    FROM {namespace}.parked_events AS parked
    WHERE parked.kind = 'projection' AND parked.consumer = p.name AND parked.generation = p.generation
        AND parked.tenant = :tenant::text
        AND (:table_name::text IS NULL OR parked.table_name = :table_name::text)
        AND (:key::text IS NULL OR parked.key::jsonb = :key::jsonb)
) AS e ON true
WHERE p.name = ANY(:projections::text[])
