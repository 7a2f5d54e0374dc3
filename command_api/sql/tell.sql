-- tell: write messages to the outside world; one that is there already is left as it is.
--
--   $1 partition   $2 workflow
--   $3 ids, $4 tenants, $5 channels, $6 types, $7 summaries, $8 bodies, $9 streams, $10 positions, $11 causation ids,
--   $12 correlation ids, $13 traceparents    one element per message
--
-- Caller   command_api/outgoing.py, write_messages, in the transaction that moves the checkpoint

INSERT INTO {namespace}.outgoing_messages
       (id, partition, workflow, tenant, channel, type, summary, body, stream, position, causation_id, correlation_id,
        traceparent)
SELECT m.id, $1, $2, m.tenant, m.channel, m.type, m.summary, m.body, m.stream, m.position, m.causation_id,
       m.correlation_id, m.traceparent
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::text[], $10::bigint[],
              $11::text[], $12::text[], $13::text[])
       AS m (id, tenant, channel, type, summary, body, stream, position, causation_id, correlation_id, traceparent)
ON CONFLICT ON CONSTRAINT outgoing_messages_key DO NOTHING
