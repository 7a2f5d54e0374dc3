-- workflow_counts: what workflows have before them: timers, and messages that are not delivered.
--
-- Returns  one row per workflow that has any
-- Caller   command_api/workflow_state.py, WorkflowDesk.all

SELECT workflow, timers, next_due_at, timers_failing, messages_waiting, messages_dead
  FROM (SELECT s.workflow, count(*) AS timers, min(s.due_at) AS next_due_at,
               count(*) FILTER (WHERE s.attempts > 0) AS timers_failing
          FROM {namespace}.scheduled_commands AS s
         GROUP BY s.workflow) AS t
  FULL JOIN (
       SELECT m.workflow, count(*) FILTER (WHERE m.state = 'waiting') AS messages_waiting,
              count(*) FILTER (WHERE m.state = 'dead') AS messages_dead
          FROM {namespace}.outgoing_messages AS m
         WHERE m.state <> 'delivered'
         GROUP BY m.workflow) AS o USING (workflow)
