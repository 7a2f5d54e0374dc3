-- open_workflows: make the checkpoints of workflows that have none yet.
--
--   $1 workflows, $2 their domains, $3 whether each begins with the first event in any case
--   $4 partitions, $5 and $6 their heads' positions and hashes
--
-- Caller   command_api/workflow_store.py, WorkflowStore.open
--
-- On a new system, or in a new domain, a workflow begins with the log's first event: nothing that happened before
-- its process first ran is missed. One that is added to a domain whose other workflows have run for a while begins
-- at the head: it is not to act on all of history, unless it says so.

INSERT INTO {namespace}.checkpoints (kind, consumer, generation, partition, position, commit_hash)
SELECT 'workflow', w.name, 0, p.partition,
       CASE WHEN joins.late THEN p.position ELSE 0 END,
       CASE WHEN joins.late THEN p.hash ELSE decode(repeat('00', 32), 'hex') END
  FROM unnest($1::text[], $2::text[], $3::boolean[]) AS w (name, domain, since_beginning)
 CROSS JOIN unnest($4::integer[], $5::bigint[], $6::bytea[]) AS p (partition, position, hash)
 CROSS JOIN LATERAL (
       SELECT NOT w.since_beginning AND EXISTS (
              SELECT FROM unnest($1::text[], $2::text[]) AS other (name, domain)
                JOIN {namespace}.checkpoints AS c
                  ON c.kind = 'workflow' AND c.consumer = other.name AND c.partition = p.partition
               WHERE other.domain = w.domain) AS late) AS joins
ON CONFLICT ON CONSTRAINT checkpoints_key DO NOTHING
