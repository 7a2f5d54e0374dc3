"""
Why a consumer that is behind does not move: what it said itself, whose lock it waits for, a statement that takes long,
or that no process works on its partitions.

All of it is read when somebody asks, from the database and not from the consumer: one that hangs can say nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from infra.sql import load_sql

SLOW_SECONDS = 1.0
"""A statement that has run for less is no reason yet."""
GROUPS = {"projection": "projections", "workflow": "workflows"}
"""Whose leases a kind of consumer works under: a group of that name, or one whose name goes on with `/` and all that
its program folds, `name@version`, comma-separated."""


class Fetches(Protocol):
    """A way to read the database of the read tables: a pool, or a server of the query API."""

    async def fetch(self, sql: str, /) -> Sequence[Any]:
        """Run one statement."""
        ...


class Poison(NamedTuple):
    """The first event that a consumer has set aside."""

    tenant: str
    table: str
    key: str
    event_type: str
    error: str

    def document(self) -> dict[str, str]:
        """Return it as JSON."""
        return self._asdict()


class Waits:
    """What the database says at one moment."""

    def __init__(
        self,
        namespace: str,
        sessions: Sequence[Any],
        leases: Collection[tuple[str, int]],
        poison: Mapping[tuple[str, str, int], Poison],
    ) -> None:
        self._namespace = namespace
        self._sessions = sessions
        self._leases = leases
        self._poison = poison

    def of(
        self, kind: str, consumer: str, generation: int, behind: Collection[int], *, version: int = 0
    ) -> str | None:
        """Return why a consumer that is behind in some partitions does not move; None where nothing speaks of it."""
        for session in self._sessions:
            if self._is_of(session["statement"], consumer, generation):
                return _words(session)
        group = GROUPS.get(kind)
        if group is not None and (
            left := [part for part in sorted(behind) if (group, part) not in self._leases]
        ):
            named = ", ".join(map(str, left))
            return f"a process: none holds partition{'s' if len(left) > 1 else ''} {named} of {group}"
        return None

    def poison(self, kind: str, consumer: str, generation: int) -> dict[str, str] | None:
        """Return the first event that a consumer has set aside, where the asker may see it."""
        found = self._poison.get((kind, consumer, generation))
        return found and found.document()

    def _is_of(self, statement: str, consumer: str, generation: int) -> bool:
        schema = f'"{self._namespace}_{consumer.replace("-", "_")}_{generation}"'
        return tag_of(consumer, generation) in statement or schema in statement


def _works(name: str, group: str, wanted: str) -> bool:
    """Say whether the members of a group work for a consumer."""
    prefix = f"{group}/"
    return name == group or (name.startswith(prefix) and wanted in name.removeprefix(prefix).split(","))


def tag_of(consumer: str, generation: int) -> str:
    """Return the comment by which a statement says for whom it is."""
    return f"/* {consumer} {generation} */"


async def read_waits(pool: Fetches, namespace: str) -> Waits:
    """Ask the database what its sessions wait for, and who works on what."""
    sql = partial(load_sql, "event_store", namespace=namespace)
    sessions = await pool.fetch(sql("sql/queries/status_waits.sql").replace("{seconds}", str(SLOW_SECONDS)))
    leases = await pool.fetch(sql("sql/queries/status_leases.sql"))
    parked = await pool.fetch(sql("sql/queries/status_poison.sql"))
    return Waits(
        namespace,
        sessions,
        {(row["group_name"], row["partition"]) for row in leases},
        {
            (row["kind"], row["consumer"], row["generation"]): Poison(
                row["tenant"], row["table_name"], row["key"], row["event_type"], row["error"]
            )
            for row in parked
        },
    )


def _words(session: Any) -> str:
    if session["holder_pid"] is None:
        waits = f", now at {session['event']}" if session["event"] else ""
        return f"a statement that has run for {session['seconds']:.0f} s{waits}"
    who = f"{session['holder'] or 'a session'} (account {session['holder_user']}, process {session['holder_pid']})"
    since = f"{session['holder_state'] or 'there'} for {session['holder_seconds'] or 0:.0f} s"
    return f"a lock that {who} holds, {since}"
