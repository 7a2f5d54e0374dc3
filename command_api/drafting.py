"""
Decides commands into a draft: what the next append will hold, and what is believed once it is stored.

A draft may rest on the one before it while that is still on its way to the log, so deciding and storing go on side
by side. Should an earlier draft's decision come to nothing, what was decided on its events is decided again.
"""

import asyncio
from collections.abc import Callable, Sequence, Set
from datetime import datetime

from command_api.deciding import Decision, Deferred, Desk, Missing, Speculation, foreseen_error
from command_api.loading import StateLoader
from command_api.pending import Pending
from command_api.requests import Answer
from command_api.state_cache import StateCache, StreamKey
from event_store.log import BATCH_BYTES_MAX
from infra.failpoints import failpoint

DECIDED_A_TURN = 64
"""After so many decisions the loop gets a turn: other requests are read and answered meanwhile."""
APPEND_BYTES_MAX = BATCH_BYTES_MAX // 2

Clock = Callable[[], datetime]


class Draft:
    """Decisions that will be appended together, in order."""

    __slots__ = ("decisions", "epoch", "is_closed", "size", "speculation")

    def __init__(self, cache: StateCache, partition: int, after: "Draft | None" = None) -> None:
        """`after` is the draft that is under way."""
        self.epoch = cache.epoch(partition)
        """Tells the history apart that its states are of."""
        self.decisions: list[Decision] = []
        self.size = 0
        self.is_closed = False
        """Whether the next command has to wait until what is drafted is stored."""
        self.speculation: Speculation = Speculation(cache, partition, after.speculation if after else None)

    def __len__(self) -> int:
        return len(self.decisions)

    @property
    def is_full(self) -> bool:
        """Whether it has as many bytes as one append may, or for another reason takes nothing more."""
        return self.is_closed or self.size > APPEND_BYTES_MAX

    def add(self, decision: Decision) -> None:
        """Take in what follows from one more command."""
        self.decisions.append(decision)
        self.size += decision.bytes

    def rests_on(self, keys: Set[StreamKey]) -> bool:
        """Say whether any decision looked at one of some streams."""
        return bool(keys) and any(
            (decision.pending.tenant, stream) in keys
            for decision in self.decisions
            for stream in decision.seen
        )


class Drafter:
    """Loads what commands of one partition need, and decides them."""

    def __init__(
        self, partition: int, loader: StateLoader, desk: Callable[[datetime], Desk], clock: Clock
    ) -> None:
        self._partition, self._loader, self._desk_at, self._clock = partition, loader, desk, clock

    async def decide(self, batch: Sequence[Pending], draft: Draft) -> Sequence[Pending]:
        """
        Add to a draft what follows from commands, in order, and return those for which it has no room.

        Those of which nothing can follow are answered.

        Raises:
            EpochChanged: States are of a history that the log does not have any more.
            StoreUnavailable
        """
        failpoint("pipeline.before_decide")
        desk = self.desk()
        for number, pending in enumerate(batch):
            try:
                decision = await self.decide_one(pending, desk, draft.speculation, batch[number:])
            except Deferred:
                draft.is_closed = True
                return batch[number:]
            if decision is not None:
                draft.add(decision)
                if draft.is_full:
                    return batch[number + 1 :]
            if number % DECIDED_A_TURN == DECIDED_A_TURN - 1:
                await asyncio.sleep(0)
        return ()

    def desk(self) -> Desk:
        """Return where to decide now."""
        return self._desk_at(self._clock())

    async def decide_one(
        self, pending: Pending, desk: Desk, speculation: Speculation, rest: Sequence[Pending]
    ) -> Decision | None:
        """
        Return a command's decision; None when it has been answered because there can be none.

        Raises:
            Deferred: What it rests on is on its way to the log, and has to be there first.
        """
        while True:
            try:
                return desk.decide(pending, speculation)
            except Missing as missing:
                await self._load(missing.keys, rest, desk, speculation)
            except Deferred:
                raise
            except Exception as error:
                pending.settle(Answer(pending.stream, error=foreseen_error(pending, error)))
                return None

    async def _load(
        self, keys: Sequence[StreamKey], rest: Sequence[Pending], desk: Desk, speculation: Speculation
    ) -> None:
        """Load what a command lacks, and in the same query what the rest of the batch will lack, as far as is known."""
        lacking = dict.fromkeys(keys)
        for pending in rest:
            lacking.update(_lacking(pending, desk, speculation))
        failpoint("pipeline.before_load")
        await self._loader.load(self._partition, lacking, speculation.loaded)
        failpoint("pipeline.after_load")


def _lacking(pending: Pending, desk: Desk, speculation: Speculation) -> dict[StreamKey, None]:
    """Return what a command lacks, in the light of what is loaded; a guess until its turn comes."""
    try:
        desk.look(pending, speculation)
    except Missing as lacking:
        return dict.fromkeys(lacking.keys)
    except Exception:
        return {}
    return {}
