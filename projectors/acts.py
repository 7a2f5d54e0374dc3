"""
What each operation of operators does to the read side. Whoever carries it out calls `perform`; see carrier.py.

Everything here may begin again after a kill: a build goes on where it was, and projections that were done are named in
the operation's progress.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, assert_never

from event_store.operations import (
    Drop,
    Mend,
    Operation,
    Pause,
    Replay,
    ReplayAsOf,
    Resume,
    RetryParked,
    SkipParked,
    SwapBack,
)
from projectors.binaries import is_folded
from projectors.build import Build, Built, Workshop
from projectors.build_workers import BuildWorkers, workers_of
from projectors.dead_letters import one_parked, read_parked, retry, skip
from projectors.folding import Place
from projectors.generations import FoldedByAnother, Generation
from projectors.history import positions_at
from projectors.mend import mender_of
from projectors.projection import Projection, Row
from projectors.read_side import ReadSide
from projectors.side_builds import replay_into
from schemas.errors import MalformedRequest, NotFound

RATE_SECONDS = 10.0
"""Over how long a time the rate is taken."""

Result = Mapping[str, Any]


class Progress:
    """How far an operation is: what its row says of it, changed in place."""

    def __init__(self, said: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.said: dict[str, Any] = dict(said)
        self.done: list[Any] = list(said.get("done", ()))
        self._clock = clock
        self._reached: dict[int, int] = {}
        self._seen: deque[tuple[float, int]] = deque()

    def begin(self, projection: str, events: int, waiting: int) -> None:
        """Take note that a projection is begun, of so many events, and that others wait."""
        self._reached.clear()
        self._seen.clear()
        self.said |= {"projection": projection, "events": 0, "of": events, "projections_left": waiting}
        self.said |= {"events_per_second": None, "seconds_left": None}

    def reached(self, _projection: str, partition: int, position: int) -> None:
        """Take note of a position that was reached."""
        self._reached[partition] = position
        events, now = sum(self._reached.values()), self._clock()
        self._seen.append((now, events))
        while now - self._seen[0][0] > RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        began, before = self._seen[0]
        rate = (events - before) / (now - began) if now > began else 0.0
        of = max(self.said["of"], events)
        left = of - events + self.said["projections_left"] * of
        self.said |= {"events": events, "of": of}
        if rate:
            self.said |= {"events_per_second": round(rate), "seconds_left": round(left / rate, 1)}

    def finish(self, result: Any) -> None:
        """Take note that a projection is done, so that it is not begun again."""
        self.done.append(result)
        self.said["done"] = self.done


async def perform(side: ReadSide, operation: Operation, progress: Progress) -> Result:
    """
    Do what was asked for; `holds` in the result says whether all is as it should be.

    Raises:
        ServiceError: It could not be done.
    """
    asked = operation.asked
    match asked:
        case Replay():
            return await _replay(side, asked, progress)
        case ReplayAsOf():
            return await _replay_as_of(side, asked, progress)
        case Mend():
            kind = kind_of(side, asked.projection)
            mender = await mender_of(side, kind)
            return {
                "holds": True,
                "done": await mender.mend(place_in(kind, asked.tenant, asked.key, asked.table)),
            }
        case Pause() | Resume():
            await side.generations.set_paused(asked.projection, paused=isinstance(asked, Pause))
            return {"holds": True, "done": f"{asked.projection}: {asked.kind}d"}
        case SwapBack():
            return {"holds": True, "done": await _swap_back(side, asked.projection, progress)}
        case Drop():
            await side.generations.drop(asked.projection, asked.generation)
            return {"holds": True, "done": f"{asked.projection}: generation {asked.generation} is dropped"}
        case RetryParked():
            parked = await read_parked(side, asked.tenant, asked.consumer)
            chosen = parked if asked.id is None else [one_parked(parked, asked.id)]
            return {"holds": True, "keys": await retry(side, chosen)}
        case SkipParked():
            one = one_parked(await read_parked(side, asked.tenant), asked.id)
            return {"holds": True, "keys": await skip(side, one, asked.reason, actor=operation.actor)}
        case _:
            assert_never(asked)


def kind_of(side: ReadSide, name: str) -> type[Projection[Row]]:
    """
    Return a projection by its name.

    Raises:
        NotFound: This program has none of that name.
    """
    if name not in side.kinds:
        raise NotFound(f"projection {name}; there are: {', '.join(sorted(side.kinds))}")
    return side.kinds[name]


def place_in(kind: type[Projection[Row]], tenant: str, key: Sequence[str], table: str | None) -> Place:
    """
    Return the place of a row; the table is the projection's first unless one is named.

    Raises:
        MalformedRequest: There is no such table, or its key has other parts.
    """
    if table is not None and table not in kind.tables:
        raise MalformedRequest(f"{kind.name} has no table {table}; there are: {', '.join(kind.tables)}")
    name = table or next(iter(kind.tables))
    columns = kind.tables[name][1]
    if len(columns) != len(key):
        raise MalformedRequest(f"the key of {kind.name} has the parts {'/'.join(columns)}")
    return Place(name, tenant, tuple(key))


def shop_of(side: ReadSide) -> Workshop:
    """Return what builds on this read side need."""
    return Workshop(side.opened, side.registry, side.generations, side.checkpoints)


async def _replay(side: ReadSide, asked: Replay, progress: Progress) -> Result:
    with workers_of(side) as workers:
        await _replay_by(side, asked, progress, workers)
    return {"holds": all(one["swapped"] for one in progress.done), "projections": progress.done}


async def _replay_by(side: ReadSide, asked: Replay, progress: Progress, workers: BuildWorkers | None) -> None:
    kinds = [kind_of(side, name) for name in asked.projections or sorted(side.kinds)]
    is_done = {one["name"] for one in progress.done}
    for number, kind in enumerate(kinds, 1):
        if kind.name in is_done:
            continue
        live = (await side.generations.live()).get(kind.name)
        if live is not None and live.version > kind.version:  # going back is what swap-back is for
            raise FoldedByAnother(kind.name, live.version, kind.version)
        progress.begin(kind.name, await _events_in(side), len(kinds) - number)
        build = Build(
            shop_of(side),
            kind,
            events_per_second_max=asked.throttle,
            progress=progress.reached,
            workers=workers,
        )
        progress.finish(document_of_build(await build.run(verify=asked.verify)))


async def _replay_as_of(side: ReadSide, asked: ReplayAsOf, progress: Progress) -> Result:
    kinds = [kind_of(side, name) for name in asked.projections or sorted(side.kinds)]
    goals = await positions_at(side.log, asked.as_of)
    is_done = {one["name"] for one in progress.done}
    for number, kind in enumerate(kinds, 1):
        if kind.name in is_done:
            continue
        progress.begin(kind.name, sum(goals.values()), len(kinds) - number)
        make = partial(Build, events_per_second_max=asked.throttle, progress=progress.reached)
        schema = asked.into if len(kinds) == 1 else f"{asked.into}_{kind.name.replace('-', '_')}"
        events = await replay_into(shop_of(side), kind, schema, goals, make=make)
        progress.finish({"name": kind.name, "schema": schema, "events": events})
    return {"holds": True, "projections": progress.done}


async def _swap_back(side: ReadSide, name: str, progress: Progress) -> str:
    kind = kind_of(side, name)
    live = (await side.generations.live()).get(name)
    if live is not None and live.generation == progress.said.get("generation"):
        return f"{name}: generation {live.generation} is live again"  # whoever began had come as far as that
    if live is None or live.previous is None:
        raise NotFound(f"generation of {name} to go back to")
    before = next(
        row for row in await side.generations.all()
        if row["projection"] == name and row["generation"] == live.previous
    )  # fmt: skip
    if before["version"] != kind.version:
        if is_folded(name, before["version"], await side.generations.alive_groups()):
            raise FoldedByAnother(name, before["version"], kind.version)
        raise MalformedRequest(
            f"generation {live.previous} is of version {before['version']}: run the program that folds it"
        )
    progress.begin(name, await _events_in(side), 0)
    progress.said["generation"] = live.previous
    generation = Generation(name, live.previous, kind.version, before["schema"])
    await Build(shop_of(side), kind, progress=progress.reached).bring_back(generation, live.generation)
    return f"{name}: generation {generation.number} is live again"


async def _events_in(side: ReadSide) -> int:
    return sum(mark.position for mark in (await side.log.heads()).values())


def document_of_build(built: Built) -> dict[str, Any]:
    """Return what became of a build as JSON."""
    return {
        "name": built.projection, "version": built.version, "generation": built.generation, "events": built.events,
        "seconds": round(built.seconds, 3), "swapped": built.swapped, "rows": built.rows,
        "difference": built.difference and built.difference.document(),
    }  # fmt: skip


def moment_of(text: str) -> datetime:
    """
    Return a time that was typed.

    Raises:
        MalformedRequest: It is none, or names no time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedRequest(f"{text} is no RFC 3339 time") from error
    if moment.tzinfo is None:
        raise MalformedRequest(f"{text} names no time zone, as 2026-01-31T12:00:00Z does")
    return moment
