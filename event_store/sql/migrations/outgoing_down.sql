-- outgoing_down: take back what outgoing.sql made. Messages that were not delivered are lost.

ALTER TABLE {namespace}.parked_events DROP COLUMN consumer_version;
DROP TABLE {namespace}.outgoing_messages;
