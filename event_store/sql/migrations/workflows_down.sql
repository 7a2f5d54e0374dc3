-- workflows_down: take back what workflows.sql made. Timers that were set are lost.

DROP TABLE {namespace}.workflow_answers;
DROP TABLE {namespace}.scheduled_commands;
