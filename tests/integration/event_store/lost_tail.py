"""What a failover or a restore leaves of a log when the last commits had not reached the other server."""

from event_store.connections import StoreConnection

HEAD = "(SELECT coalesce(max(last_position), 0) FROM everfold.commits WHERE partition = $1)"
EVENTS = f"DELETE FROM everfold.events WHERE partition = $1 AND position > {HEAD}"
TAGS = f"DELETE FROM everfold.tags WHERE partition = $1 AND position > {HEAD}"
STREAMS = f"DELETE FROM everfold.streams WHERE partition = $1 AND first_position > {HEAD}"
VERSIONS = """
UPDATE everfold.streams AS s SET version = e.version, last_position = e.position
  FROM (SELECT tenant, stream, max(version) AS version, max(position) AS position
          FROM everfold.events WHERE partition = $1 GROUP BY tenant, stream) AS e
 WHERE s.partition = $1 AND s.tenant = e.tenant AND s.stream = e.stream
"""


async def lose_tail(admin: StoreConnection, partition: int, *, after: int) -> None:
    """Take away every commit that ends after a position, as if it had never been."""
    async with admin.transaction():
        await admin.execute("SET LOCAL session_replication_role = replica")  # as if the triggers were off
        await admin.execute(
            "DELETE FROM everfold.commits WHERE partition = $1 AND last_position > $2", partition, after
        )
        for statement in (EVENTS, TAGS, STREAMS, VERSIONS):
            await admin.execute(statement, partition)
