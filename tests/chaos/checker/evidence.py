"""What a run leaves behind, as an outsider sees it: the clients' ledger, the database's rows, what taps heard."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(NamedTuple):
    """An event as it stands in the log."""

    partition: int
    position: int
    tenant: str
    stream: str
    version: int
    id: str
    type: str
    schema_version: int
    data: bytes
    metadata: bytes
    recorded_micros: int

    @property
    def facts(self) -> Any:
        """Return what it says."""
        return json.loads(self.data)


class Commit(NamedTuple):
    """A commit's record."""

    partition: int
    first: int
    last: int
    recorded_micros: int
    hash: bytes
    previous: bytes


class Checkpoint(NamedTuple):
    """How far a consumer is."""

    kind: str
    consumer: str
    partition: int
    position: int
    hash: bytes
    waiting_for: str | None = None


class Call(NamedTuple):
    """A command of the ledger: all attempts with one key."""

    key: str
    tenant: str
    path: str
    body: Mapping[str, Any]
    invoked: float
    answered: float
    outcome: str
    """`ok`, `rejected` or `unknown`."""
    events: Sequence[Mapping[str, Any]] = ()
    problem: str = ""


@dataclass
class Evidence:
    """All that is checked."""

    calls: list[Call] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """By partition and position."""
    commits: list[Commit] = field(default_factory=list)
    tags: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    """By partition and position."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """Of live generations, workflows and relays."""
    expected_consumers: Sequence[tuple[str, str]] = ()
    keys: list[tuple[str, str, int]] = field(default_factory=list)
    """Tenant, idempotency key, and how often it stands in the log's table."""
    noted_heads: list[tuple[int, int, str]] = field(default_factory=list)
    """Partition, position and hash that were seen during the run."""
    noted_events: list[tuple[int, int, str, str]] = field(default_factory=list)
    """Partition, position, id and a digest of the data, seen during the run."""
    tapped: set[str] | None = None
    """Ids of the events that other programs were told; None: there is no broker."""
    queued: Mapping[str, int] = field(default_factory=dict)
    """Messages left in each feed queue, once all consumers had gone."""
    dead: Sequence[str] = ()
    """Digests of the dead letters."""
    injected: Sequence[str] = ()
    """Digests of the forgeries that the run put into queues."""
    injected_last: Sequence[str] = ()
    """Of these, those that nothing could have taken away again."""
    live: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The rows of each live table, as text, by projection/table."""
    rebuilt: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The same out of a fresh replay."""
    parked: int = 0

    @cached_property
    def by_id(self) -> Mapping[str, Event]:
        """Return events by id; of ids that occur twice, one."""
        return {event.id: event for event in self.events}

    @cached_property
    def heads(self) -> Mapping[int, int]:
        """Return the last position of every partition that has events."""
        heads: dict[int, int] = defaultdict(int)
        for event in self.events:
            heads[event.partition] = max(heads[event.partition], event.position)
        return heads

    @cached_property
    def streams(self) -> Mapping[tuple[str, str], Sequence[Event]]:
        """Return every stream's events in order of position."""
        found: dict[tuple[str, str], list[Event]] = defaultdict(list)
        for event in self.events:
            found[event.tenant, event.stream].append(event)
        return found


def read_lines(file: Path) -> list[Any]:
    """Return the values of a file of JSON lines; none where there is no such file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def read_run(folder: Path) -> Evidence:
    """Return what the run itself wrote down."""
    evidence = Evidence()
    evidence.calls = [Call(**line) for line in read_lines(folder / "ledger.jsonl")]
    evidence.noted_heads = [tuple(line) for line in read_lines(folder / "heads.jsonl")]
    evidence.noted_events = [tuple(line) for line in read_lines(folder / "events.jsonl")]
    if (folder / "broker.json").exists():
        told = json.loads((folder / "broker.json").read_text())
        evidence.tapped = set(told["tapped"])
        evidence.queued, evidence.dead = told["queued"], told["dead"]
        evidence.injected, evidence.injected_last = told["injected"], told["injected_last"]
    return evidence


async def read_database(
    evidence: Evidence, url: str, namespace: str, *, side: str, consumers: Sequence[tuple[str, str]]
) -> None:
    """Add what stands in the database; `side` is what the schemas of a fresh replay begin with."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _read_log(evidence, connection, namespace)
            await _read_consumers(evidence, connection, namespace)
            await _read_tables(evidence, connection, namespace, side)
        evidence.expected_consumers = consumers
    finally:
        await connection.close()


async def _read_log(evidence: Evidence, connection: Any, namespace: str) -> None:
    rows = await connection.fetch(
        "SELECT partition, position, tenant, stream, version, id::text, type, schema_version, data, metadata,"
        " (extract(epoch FROM recorded_at) * 1000000)::bigint"
        f" FROM {namespace}.events ORDER BY partition, position"
    )
    evidence.events = [Event(*row) for row in rows]
    rows = await connection.fetch(
        "SELECT partition, first_position, last_position, (extract(epoch FROM recorded_at) * 1000000)::bigint,"
        f" hash, previous_hash FROM {namespace}.commits ORDER BY partition, last_position"
    )
    evidence.commits = [Commit(*row) for row in rows]
    for row in await connection.fetch(
        f"SELECT partition, position, tag FROM {namespace}.tags ORDER BY partition, position, tag"
    ):
        evidence.tags.setdefault((row[0], row[1]), []).append(row[2])
    rows = await connection.fetch(
        f"SELECT tenant, key, count(*) FROM {namespace}.idempotency_keys GROUP BY tenant, subject, key"
    )
    evidence.keys = [tuple(row) for row in rows]


async def _read_consumers(evidence: Evidence, connection: Any, namespace: str) -> None:
    rows = await connection.fetch(
        f"""
        SELECT c.kind, c.consumer, c.partition, c.position, c.commit_hash, c.waiting_for
          FROM {namespace}.checkpoints AS c
          LEFT JOIN {namespace}.projections AS p ON p.name = c.consumer AND c.kind = 'projection'
         WHERE c.kind IN ('workflow', 'relay') OR (c.kind = 'projection' AND p.generation = c.generation)
        """
    )
    evidence.checkpoints = [Checkpoint(*row) for row in rows]
    evidence.parked = await connection.fetchval(f"SELECT count(*) FROM {namespace}.parked_events")


async def _read_tables(evidence: Evidence, connection: Any, namespace: str, side: str) -> None:
    live, rebuilt = {}, {}
    for name, generation in await connection.fetch(f"SELECT name, generation FROM {namespace}.projections"):
        plain = name.replace("-", "_")
        for (table,) in await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = $1",
            f"{namespace}_{plain}_{generation}",
        ):
            live[f"{name}/{table}"] = await _rows(connection, f"{namespace}_{plain}_{generation}", table)
            rebuilt[f"{name}/{table}"] = await _rows(connection, f"{side}_{plain}", table)
    evidence.live, evidence.rebuilt = live, rebuilt


async def _rows(connection: Any, schema: str, table: str) -> list[tuple[str, str]]:
    """Return every row as it is stored, and its document, in an order of its own."""
    rows = await connection.fetch(
        f"""
        SELECT t::text COLLATE "C" AS whole, convert_from(t.doc, 'UTF8')
          FROM "{schema}"."{table}" AS t ORDER BY 1
        """
    )
    return [(row[0], row[1]) for row in rows]
