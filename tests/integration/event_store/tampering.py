"""What somebody with all rights can do to a log, past every guard."""

from event_store.connections import StoreConnection
from event_store.postgres import PostgresLog
from tests.contract.log.appends import append


async def tamper(admin: StoreConnection, statement: str) -> None:
    """Run a statement as if the triggers were off."""
    async with admin.transaction():
        await admin.execute("SET LOCAL session_replication_role = replica")
        await admin.execute(statement)


async def cut_tail(
    admin: StoreConnection, partition: int, position: int, *, namespace: str = "everfold"
) -> None:
    """Take away everything after a position, as a restore of an older copy does; it must be a commit's end."""
    for statement in (
        "DELETE FROM {}.events WHERE partition = $ AND position > @",
        "DELETE FROM {}.commits WHERE partition = $ AND last_position > @",
        "DELETE FROM {}.streams WHERE partition = $ AND first_position > @",
        (
            "UPDATE {}.streams AS s SET version = e.version, last_position = e.position FROM ("
            "SELECT DISTINCT ON (tenant, stream) tenant, stream, version, position FROM {}.events "
            "WHERE partition = $ ORDER BY tenant, stream, position DESC) AS e "
            "WHERE s.partition = $ AND s.tenant = e.tenant AND s.stream = e.stream"
        ),
    ):
        filled = statement.replace("{}", namespace).replace("$", str(partition)).replace("@", str(position))
        await tamper(admin, filled)


async def fill(log: PostgresLog, *sizes: int, partition: int = 0, prefix: str = "a") -> None:
    """Append commits of so many events."""
    for number, size in enumerate(sizes):
        await log.append_batch(partition, [append(f"{prefix}/{number}", 0, size, data=b'{"quantity": 12}')])
