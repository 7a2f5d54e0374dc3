-- head: what a read rests on, to stand in the same statement as the read itself.
--
--   :tenant, :partition   whose answer it is, and where the tenant's events are
--   :projections          names of the projections that are read
--   :table_name, :key     of a document: which row; null: all of the tenant's
--
-- Returns  one text: for each projection, by name, `name,generation,position,commit hash (8 hex digits),the tenant's
--          own last applied position,the position of the first event parked for these rows,that of the first parked
--          for any row of the tenant (0: none),the checkpoint's revision,the partition in which the tenant's last
--          event was applied`, separated by `;`
-- Caller   query_api/statements.py
--
-- What is parked in a partition that the tenant has left holds its rows up before all that it did since: position 1.
-- An event whose keys could not even be told is parked under the table `*`: it may belong to any row.

SELECT string_agg(
    concat_ws(
        ',', p.name, p.generation, coalesce(c.position, 0), coalesce(encode(substr(c.commit_hash, 1, 4), 'hex'), '00000000'),
        coalesce(a.position, 0), coalesce(e.position, 0), coalesce(e.tenant_position, 0), coalesce(c.revision, 0),
        coalesce(a.partition, :partition::integer)
    ),
    ';' ORDER BY p.name COLLATE "C"
)
FROM {namespace}.projections AS p
LEFT JOIN {namespace}.checkpoints AS c
    ON c.kind = 'projection' AND c.consumer = p.name AND c.generation = p.generation AND c.partition = :partition::integer
LEFT JOIN {namespace}.applied_by_tenant AS a
    ON a.tenant = :tenant::text AND a.projection = p.name AND a.generation = p.generation
LEFT JOIN LATERAL (
    SELECT min(placed.position) AS tenant_position,
        min(placed.position) FILTER (
            WHERE :key::text IS NULL OR parked.table_name = '*'
                OR (parked.table_name = :table_name::text AND parked.key::jsonb = :key::jsonb)
        ) AS position
    FROM {namespace}.parked_events AS parked
    CROSS JOIN LATERAL (
        SELECT CASE WHEN parked.partition = :partition::integer THEN parked.position ELSE 1 END AS position
    ) AS placed
    WHERE parked.kind = 'projection' AND parked.consumer = p.name AND parked.generation = p.generation
        AND parked.tenant = :tenant::text
) AS e ON true
WHERE p.name = ANY(:projections::text[])
