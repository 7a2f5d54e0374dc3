-- note_answers: keep what reactions in progress are told, before they act on it.
--
--   $1 partition   $2 workflow   $3 positions of the events, $4 steps, $5 answers
--
-- Caller   command_api/workflow_store.py, WorkflowStore.note

INSERT INTO {namespace}.workflow_answers (partition, workflow, position, step, answer)
SELECT $1, $2, n.position, n.step, n.answer
  FROM unnest($3::bigint[], $4::text[], $5::bytea[]) AS n (position, step, answer)
ON CONFLICT ON CONSTRAINT workflow_answers_key DO NOTHING
