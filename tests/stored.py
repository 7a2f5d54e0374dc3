"""
Whole logs as they were once stored, folded by today's code: `tests/corpus/{domain}/log-*.jsonl`.

A payload by itself shows that an event is read; only events that fit each other show that folds take them. A file is
written once, by a domain's own story (for supply `tests/unit/supply/stored_story.py`), and never again: when events
change, another is written beside it.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from command_api.decider import Decider
from infra.domains import Domain, definitions, load_registry
from infra.evolution.cli import CORPORA
from infra.evolution.versions_file import Place
from infra.testing.log import Recorded
from projectors.projection import Projection, Stream
from schemas import Event
from schemas.messages import format_instant
from schemas.registry import Registry

ROOT = Path(__file__).parent.parent
TENANT = "stored"


class StoredEvent(NamedTuple):
    """A line of a stored log."""

    stream: str
    version: int
    place: Place
    recorded_at: datetime
    occurred_at: datetime
    data: bytes


def corpus_of(domain: str) -> Path:
    """Return the folder of a domain's stored payloads and logs."""
    return ROOT / CORPORA / domain


def stored_logs(domain: str) -> list[Path]:
    """Return a domain's stored logs, oldest first."""
    return sorted(corpus_of(domain).glob("log-*.jsonl"))


def write_log(path: Path, events: Iterable[Recorded]) -> None:
    """Store a log; one that is there is never written again."""
    with path.open("xb") as file:
        for recorded in events:
            line = {
                "stream": recorded.stream,
                "version": recorded.version,
                "type": recorded.event.type,
                "schema_version": recorded.event.schema_version,
                "recorded_at": format_instant(recorded.moment.now),
                "occurred_at": format_instant(recorded.moment.occurred_at),
                "data": recorded.event.encode().decode(),
            }
            file.write(orjson.dumps(line) + b"\n")


def read_log(path: Path) -> Iterator[StoredEvent]:
    """Return a stored log's events."""
    for line in path.read_bytes().splitlines():
        one = orjson.loads(line)
        yield StoredEvent(
            one["stream"],
            one["version"],
            Place(one["type"], one["schema_version"]),
            datetime.fromisoformat(one["recorded_at"]),
            datetime.fromisoformat(one["occurred_at"]),
            one["data"].encode(),
        )


class Folded(NamedTuple):
    """What came of a log: each stream's state, and each projection's rows."""

    states: dict[str, Any]
    rows: dict[str, dict[tuple[str, tuple[str, ...]], Any]]


def fold_log(domain: Domain, events: Iterable[StoredEvent], *, registry: Registry | None = None) -> Folded:
    """Fold a stored log with all deciders and projections of a domain, as today's code reads it."""
    registry = registry or load_registry([domain])
    deciders = {
        decider.collection: decider()
        for decider in definitions([domain], "command_api", Decider)
        if not decider.by_tag
    }
    projections = [projection() for projection in definitions([domain], "projectors", Projection)]
    folded = Folded({}, {projection.name: {} for projection in projections})
    for position, stored in enumerate(events, 1):
        stream = Stream(
            TENANT, stored.stream, stored.version, position, f"event-{position}", stored.recorded_at, stored.occurred_at
        )  # fmt: skip
        for event in registry.decode(*stored.place, stored.data):
            decider = deciders[stored.stream.partition("/")[0]]
            state = folded.states.get(stored.stream, decider.initial)
            folded.states[stored.stream] = decider.evolve(state, event)
            for projection in projections:
                projection.fold(folded.rows[projection.name], event, stream)
    return folded


def states_after(domain: Domain, event: Event, stream: str) -> dict[str, Any]:
    """Return what each decider of a domain makes of one event alone: facts aren't argued with."""
    states = {}
    for kind in definitions([domain], "command_api", Decider):
        decider = kind()
        states[kind.collection] = (
            decider.evolve_tagged(decider.initial, stream, event)
            if kind.by_tag
            else decider.evolve(decider.initial, event)
        )
    return states
