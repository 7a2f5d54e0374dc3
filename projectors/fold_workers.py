"""
Splits one projection's work on a page by key over worker processes (shares.py), and puts the parts together again.

One partition's events are one sequence with one checkpoint, and readers rely on it: a row is never ahead of or behind
what the checkpoint says. So only what is pure is split, the fold; loading rows, writing them and moving the checkpoint
stay with whoever leads, in one transaction (decision 0021).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from typing import Any

from event_store.log import Page
from projectors import shares
from projectors.decoding import Decoded
from projectors.folding import Folding, Parked, Place
from projectors.page_statement import TableChanges
from projectors.shares import Asked, Folded, Whose
from projectors.tables import Table, Written
from projectors.writing import RowsRefused

SPLIT_EVENTS_MIN = 500
"""A page of fewer events is folded by whoever leads: telling workers of it would take longer."""


class FoldWorkers:
    """The worker processes of this process; any number of projections and partitions use them."""

    def __init__(self, domains: Sequence[str], number: int) -> None:
        self._domains = tuple(domains)
        self._executors: list[ProcessPoolExecutor] = []
        self._tokens = count(1)
        self.resize(number)

    @property
    def number(self) -> int:
        """How many workers there are."""
        return len(self._executors)

    def resize(self, number: int) -> None:
        """Have more or fewer workers, from the next page on."""
        while len(self._executors) > number:
            self._executors.pop().shutdown(wait=False)
        while len(self._executors) < number:
            self._executors.append(
                ProcessPoolExecutor(
                    1, mp_context=get_context("spawn"), initializer=shares.begin, initargs=(self._domains,)
                )
            )

    def close(self) -> None:
        """End all workers."""
        self.resize(0)

    def new_token(self) -> str:
        """Return a token that no share was ever begun with."""
        return str(next(self._tokens))

    def processes(self) -> Sequence[int]:
        """Return the ids of the worker processes that have been started."""
        return [pid for executor in self._executors for pid in executor._processes or ()]

    def executors(self) -> Sequence[ProcessPoolExecutor]:
        """Return the workers as they are now."""
        return tuple(self._executors)

    async def plan(self, worker: ProcessPoolExecutor, asked: Asked) -> Mapping[str, set[Place]]:
        """Have a worker take up its share."""
        return await asyncio.get_running_loop().run_in_executor(worker, shares.plan, self._domains, asked)

    async def fold(
        self, worker: ProcessPoolExecutor, whose: Whose, rows: Mapping[Place, bytes | None]
    ) -> Folded:
        """Have a worker fold its share."""
        return await asyncio.get_running_loop().run_in_executor(worker, shares.fold, whose, rows)

    def replace_broken(self) -> None:
        """Start anew what has died; whoever led is told by an error, and begins the page again."""
        number = self.number
        self.resize(0)
        self.resize(number)


@dataclass
class SplitFold:
    """One member's folds that are split."""

    workers: FoldWorkers
    whose: Whose
    tables: Mapping[str, Table]
    rows_max: int
    _token: str = ""
    _count: int = 0

    def forget(self) -> None:
        """Have the workers forget their rows, before the next page."""
        self._token = ""

    async def fold(
        self, pool: Any, page: Page, events: Sequence[Decoded], folding: Folding, *, complete: bool
    ) -> dict[str, TableChanges]:
        """
        Fold a page and note in `folding` what is to be written beside the rows; return the changed rows.

        Raises:
            RowsRefused: Some rows have no JSON form.
        """
        executors = self.workers.executors()
        if not self._token or self._count != len(executors):
            self._token, self._count = self.workers.new_token(), len(executors)
        asked = [
            Asked(
                self.whose, self._token, number, len(executors), page, tuple(folding.parked), tuple(folding.skipped),
                dict(folding.bad), complete, max(1, self.rows_max // len(executors)),
            )
            for number in range(len(executors))
        ]  # fmt: skip
        plans = await asyncio.gather(*map(self.workers.plan, executors, asked))
        loaded = await self._load(pool, plans)
        own = [{place: loaded[place] for places in plan.values() for place in places} for plan in plans]
        folded = await asyncio.gather(
            *(
                self.workers.fold(worker, self.whose, rows)
                for worker, rows in zip(executors, own, strict=True)
            )
        )
        return self._joined(folded, events, folding)

    async def _load(
        self, pool: Any, plans: Sequence[Mapping[str, Collection[Place]]]
    ) -> dict[Place, bytes | None]:
        loaded: dict[Place, bytes | None] = {}
        for name, table in self.tables.items():
            places = [place for plan in plans for place in plan.get(name, ())]
            if places:
                loaded |= await table.load_documents(pool, places)
        return loaded

    def _joined(
        self, parts: Sequence[Folded], events: Sequence[Decoded], folding: Folding
    ) -> dict[str, TableChanges]:
        refused = {place: problem for part in parts for place, problem in part.refused.items()}
        if refused:
            raise RowsRefused(refused)
        by_position = {event.stream.position: event for event in events}
        written: dict[str, list[Written]] = {name: [] for name in self.tables}
        deleted: dict[str, list[Place]] = {name: [] for name in self.tables}
        for part in parts:
            for place, document in part.rows.items():
                if document is None:
                    deleted[place.table].append(place)
                    continue
                row_class: Any = self.tables[place.table].row
                source = by_position[part.positions[place]]
                written[place.table].append((place, row_class.decode(document), document, source))
            for tenant, position in part.tenants.items():
                folding.tenants[tenant] = max(position, folding.tenants.get(tenant, 0))
            folding.parking += [
                Parked(place, by_position[position].source, error) for place, position, error in part.parking
            ]
            folding.parked |= set(part.parked)
        return {name: TableChanges(written[name], deleted[name]) for name in self.tables}
