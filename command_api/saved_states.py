"""
Saving states of long streams, so that the next one who needs them does not fold all of their past.

It is done behind the commands: nothing waits for a state to be saved, and one that is not is folded again. A saved
state belongs to one version of its decider and one shape; any other reads as if it were not there.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, get_args, get_origin

from command_api.decider import Decider
from command_api.state_cache import Known, StreamKey
from command_api.state_codec import StateCodec
from event_store.log import EventLog, Snapshot
from infra.failpoints import failpoint
from infra.telemetry import Counter, log
from schemas.envelope import CommitMark
from schemas.errors import ServiceError

EVENTS_BETWEEN = 500
"""After so many events of a stream its state is saved again."""
OFFERS_MAX = 1_000
"""So many streams may wait to be saved; more are not taken, and are offered again when they grow."""
STATES_TOGETHER_MAX = 32
STATE_BYTES_MAX = 4 * 1024 * 1024
BYTES_TOGETHER_MAX = 8 * 1024 * 1024
PAUSE_SECONDS = 0.25
"""Between two writes, so that a hot stream is saved some times a second at the most."""
SHAPE_OCTETS = 16

_saved = Counter("everfold_snapshots_saved_total", "States of streams that were saved")


class Form(NamedTuple):
    """How the states of one decider are saved."""

    codec: StateCodec
    decider_version: int
    shape: bytes


class StateForms:
    """How the states of all deciders are saved, by collection."""

    def __init__(self, rules: Iterable[Decider[Any]]) -> None:
        """
        Work out how each decider's states are saved.

        Raises:
            BadDefinition: A state cannot be, and its decider does not say so.
        """
        self._forms = {
            decider.collection: form_of(decider)
            for decider in rules
            if decider.saves_states and not decider.by_tag
        }

    def of_stream(self, stream: str) -> Form | None:
        """Return how a stream's states are saved; None: they are not."""
        return self._forms.get(stream.partition("/")[0])


def form_of(decider: Decider[Any]) -> Form:
    """
    Return how a decider's states are saved.

    Raises:
        BadDefinition: They cannot be.
    """
    codec = StateCodec(_state_type(decider))
    words = f"{decider.collection} {decider.version} {codec.shape}"
    return Form(codec, decider.version, sha256(words.encode()).digest()[:SHAPE_OCTETS])


def _state_type(decider: Decider[Any]) -> Any:
    """Return the type that a decider names as that of its states, or else that of its first state."""
    for cls in type(decider).__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Decider and isinstance(get_args(base)[0], type):
                return get_args(base)[0]
    return type(decider.initial)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A state that may be saved."""

    version: int
    state: Any
    commit: CommitMark


class StateSaver:
    """Saves states in the background, a few at a time."""

    def __init__(
        self, event_log: EventLog, forms: StateForms, *, events_between: int = EVENTS_BETWEEN
    ) -> None:
        self._log, self._forms, self._events_between = event_log, forms, events_between
        self._offers: dict[tuple[int, StreamKey], _Offer] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._context = copy_context()

    def folded(self, partition: int, key: StreamKey, known: Known, events: int, commit: CommitMark) -> None:
        """Take note of a state that took so many events to be brought up to date; `commit` has all of them."""
        if events >= self._events_between:
            self._offer(partition, key, known, commit)

    def grown(self, partition: int, key: StreamKey, before: int, known: Known, commit: CommitMark) -> None:
        """Take note of a stream that has grown by a commit."""
        if known.version // self._events_between != before // self._events_between:
            self._offer(partition, key, known, commit)

    def _offer(self, partition: int, key: StreamKey, known: Known, commit: CommitMark) -> None:
        place = (partition, key)
        if self._forms.of_stream(key[1]) is None or (
            len(self._offers) >= OFFERS_MAX and place not in self._offers
        ):
            return
        self._offers[place] = _Offer(known.version, known.state, commit)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="state saver", context=self._context)

    async def close(self) -> None:
        """Stop. What waits is not saved."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            partition, offers = self._take()
            if not offers:
                self._wake.clear()
                continue
            try:
                await self._save(partition, offers)
            except ServiceError as error:
                log.warning("states not saved", partition=partition, streams=len(offers), error=repr(error))
            except Exception as error:
                log.error("states not saved", partition=partition, streams=len(offers), exc_info=error)
            await asyncio.sleep(PAUSE_SECONDS)

    def _take(self) -> tuple[int, Mapping[StreamKey, _Offer]]:
        """Take the oldest offers of one partition."""
        partition = next(iter(self._offers), (0, None))[0]
        places = [place for place in self._offers if place[0] == partition][:STATES_TOGETHER_MAX]
        return partition, {place[1]: self._offers.pop(place) for place in places}

    async def _save(self, partition: int, offers: Mapping[StreamKey, _Offer]) -> None:
        # States never change, so another thread may read them; a large one would hold up every answer here.
        snapshots = await asyncio.to_thread(self._encoded, offers)
        failpoint("saver.before_save")
        together: list[Snapshot] = []
        size = 0
        for snapshot in snapshots:
            if size + len(snapshot.state) > BYTES_TOGETHER_MAX:
                _saved.inc(await self._log.save_states(partition, together))
                together, size = [], 0
            together.append(snapshot)
            size += len(snapshot.state)
        _saved.inc(await self._log.save_states(partition, together))
        failpoint("saver.after_save")

    def _encoded(self, offers: Mapping[StreamKey, _Offer]) -> Sequence[Snapshot]:
        snapshots = []
        for (tenant, stream), offer in offers.items():
            form = self._forms.of_stream(stream)
            assert form is not None
            try:
                state = form.codec.encode(offer.state)
            except (TypeError, ValueError, AttributeError) as error:
                log.error("state is not what its type says", stream=stream, exc_info=error)
                continue
            if len(state) > STATE_BYTES_MAX:
                log.warning(
                    "state too large to be saved", stream=stream, bytes=len(state), most=STATE_BYTES_MAX
                )
                continue
            snapshots.append(
                Snapshot(tenant, stream, form.shape, form.decider_version, offer.version, offer.commit, state)
            )
        return snapshots
