"""
Which rows the log's events touch: what the projections' own `when`s say, with no database in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from event_store.log import Page
from infra.telemetry import log
from projectors.decoding import Decoded, Decoder
from projectors.projection import Key, Projection, Stream, When
from query_api.query import ListQuery
from schemas import Event
from schemas.envelope import BEGINNING, RecordedEvent
from schemas.registry import Registry

RANGE_EVENTS_MAX = 2_000
RESUME_EVENTS_MAX = 100_000
"""A stream that has missed more positions of its partition than this begins anew."""


class TooOld(Exception):
    """What has happened since cannot be told row by row: too much, or something that this program cannot read."""


class Touch(NamedTuple):
    """A row that an event touches."""

    tenant: str
    view: str
    key: Key
    position: int


class ReadsRanges(Protocol):
    """What is needed of the log."""

    async def read_range(
        self, partition: int, first: int, last: int, *, tenants: Sequence[str] | None = None
    ) -> Sequence[RecordedEvent]:
        """Return the events of some tenants in a range of positions."""
        ...


class Changes:
    """Reads touches from the log."""

    def __init__(self, log: ReadsRanges, registry: Registry, views: Mapping[str, type[ListQuery]]) -> None:
        self._log = log
        self._views = views
        self._projections: Sequence[Projection[object]] = [
            projection() for projection in dict.fromkeys(query.projection for query in views.values())
        ]
        self._decoder = Decoder(registry, self._projections)

    async def of_range(
        self, partition: int, first: int, last: int, tenants: Sequence[str]
    ) -> tuple[Sequence[Touch], frozenset[str]]:
        """Return what tenants' events in a range touch, in order, and the tenants with events that cannot be read."""
        events = await self._log.read_range(partition, first, last, tenants=tenants)
        return self._touches(partition, events)

    async def since(self, tenant: str, partition: int, view: str, first: int, last: int) -> Mapping[Key, int]:
        """
        Return the rows of one view that a tenant's events touch, with the last position that touches each.

        Raises:
            TooOld: There is too much of it, or something that this program cannot read.
        """
        if last - first >= RESUME_EVENTS_MAX:
            raise TooOld
        found: dict[Key, int] = {}
        for start in range(first, last + 1, RANGE_EVENTS_MAX):
            end = min(start + RANGE_EVENTS_MAX - 1, last)
            touches, unreadable = await self.of_range(partition, start, end, [tenant])
            if unreadable:
                raise TooOld
            found.update((touch.key, touch.position) for touch in touches if touch.view == view)
        return found

    def _touches(
        self, partition: int, events: Sequence[RecordedEvent]
    ) -> tuple[Sequence[Touch], frozenset[str]]:
        decoded = self._decoder.decode(Page(partition, BEGINNING, events, BEGINNING))
        if decoded.held is not None:
            return self._around_unreadable(partition, events)
        return [touch for event in decoded.events for touch in self._of(event)], frozenset()

    def _around_unreadable(
        self, partition: int, events: Sequence[RecordedEvent]
    ) -> tuple[Sequence[Touch], frozenset[str]]:
        touches: list[Touch] = []
        unreadable: set[str] = set()
        for event in events:
            decoded = self._decoder.decode(Page(partition, BEGINNING, [event], BEGINNING))
            if decoded.held is not None:
                unreadable.add(event.tenant)
            touches += [touch for found in decoded.events for touch in self._of(found)]
        return touches, frozenset(unreadable)

    def _of(self, decoded: Decoded) -> Iterable[Touch]:
        stream = decoded.stream
        for view, query in self._views.items():
            whens = query.projection.whens
            for event in decoded.events:
                for mark in whens.get(event.type, ()):
                    if mark.table == query.table:
                        for key in _keys(mark, event, stream):
                            yield Touch(stream.tenant, view, key, stream.position)


def _keys(mark: When, event: Event, stream: Stream) -> Iterable[Key]:
    try:
        return [tuple(key) for key in mark.keys(event, stream)]
    except Exception as error:
        # The projector has set the event aside for the same reason, so no row has changed. When it is released, the
        # rows' revision is another, and streams begin anew.
        log.warning(
            "rows of an event not known", event=event.type, position=stream.position, error=repr(error)
        )
        return ()
