-- count_messages: how many messages wait for an attempt, or for an operator.
--
-- Returns  channel, state and how many, of those that there are
-- Caller   command_api/outgoing.py, OutgoingMessages.counts

SELECT m.channel, m.state, count(*) AS messages
  FROM {namespace}.outgoing_messages AS m
 WHERE m.state <> 'delivered'
 GROUP BY m.channel, m.state
