"""
What the partitions that tenants have left say to those that they came to; nothing in a log where no tenant has moved.

What was left never changes, so all of it is looked up outside of any lock, before a batch is appended. What the past
answers for an append goes into the batch as a check that cannot hold: so whatever builds on that append knows.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from event_store.boundaries import TAG_SEPARATOR
from event_store.codec import mark_of
from event_store.log import CONDITION, Answer, Append, Check, Outcome, StateTail, StreamTail, TagTail
from event_store.placement import Placements
from event_store.residences import Residence
from event_store.servers import Servers
from schemas.envelope import RecordedEvent

CANNOT_HOLD = 2**62
"""A version that no stream has."""

Tail = TypeVar("Tail", StreamTail, StateTail)


class _Found(NamedTuple):
    """A key's first answer, in a partition that the tenant has left."""

    fingerprint: bytes
    outcome: Outcome


class PastAnswers:
    """What the past answers for some appends of a batch, by their number in it."""

    def __init__(self, keys: Mapping[int, _Found], happened: Iterable[int]) -> None:
        self._keys, self._happened = keys, frozenset(happened) - keys.keys()

    def barred(self, appends: Sequence[Append]) -> Sequence[Append]:
        """Return a batch in which those appends cannot be carried out."""
        return [
            replace(append, checks=[*append.checks, Check(append.stream, CANNOT_HOLD)])
            if number in self._keys or number in self._happened
            else append
            for number, append in enumerate(appends)
        ]

    def answers(self, appends: Sequence[Append], outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Return a barred batch's outcomes with the answers of the past in them."""
        answered = list(outcomes)
        for number, (fingerprint, first) in self._keys.items():
            key = appends[number].key
            if key is not None and key.fingerprint == fingerprint:
                answered[number] = first
            else:
                answered[number] = outcomes[number]._replace(answer=Answer.REUSED, conflict=None)
        for number in self._happened:
            if outcomes[number].answer is Answer.CONFLICT:
                answered[number] = outcomes[number]._replace(conflict=CONDITION)
        return answered


class Past:
    """Looks up what tenants have left behind."""

    def __init__(self, servers: Servers, placements: Placements) -> None:
        self._servers, self._placements = servers, placements

    async def _before(self, partition: int, tenants: Iterable[str]) -> Mapping[str, Sequence[Residence]]:
        """Return where those of some tenants lived before who came to a partition from elsewhere."""
        if not await self._placements.any_moved():
            return {}
        found = {tenant: await self._placements.likely(tenant) for tenant in set(tenants)}
        return {tenant: past for tenant, one in found.items() if (past := one.before(partition))}

    async def lacking(
        self, partition: int, tails: Sequence[Tail], found: Sequence[RecordedEvent]
    ) -> Mapping[int, Sequence[Tail]]:
        """Return, by the partition that has the end of it, what of tails is not where their tenants live now."""
        past = await self._before(partition, (tail.tenant for tail in tails))
        if not past:
            return {}
        firsts: dict[tuple[str, str], int] = {}
        for event in found:
            firsts.setdefault((event.tenant, event.stream), event.version)
        asked = {
            (tail.tenant, tail.stream): tail
            for tail in tails
            if tail.tenant in past and firsts.get((tail.tenant, tail.stream)) != tail.after_version + 1
        }
        lacking: dict[int, list[Tail]] = defaultdict(list)
        for row in await self._places(partition, list(asked)):
            tail = asked[row["tenant"], row["stream"]]
            # A stream that came along begins at 0 here; one that began here lacks nothing.
            if row["first_position"] == 0 and row["version"] > tail.after_version:
                lacking[past[tail.tenant][-1].partition].append(tail)
        return lacking

    async def _places(
        self, partition: int, streams: Sequence[tuple[str, str]]
    ) -> Sequence[Mapping[str, Any]]:
        if not streams:
            return ()
        tenants, names = zip(*streams, strict=True)
        rows: Sequence[Mapping[str, Any]] = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("stream_places"), partition, tenants, names
            ),
        )
        return rows

    async def untagged(self, partition: int, tails: Sequence[TagTail]) -> Mapping[int, Sequence[int]]:
        """Return, by the partition that a tenant came from, the numbers of the tails that begin before it came."""
        past = await self._before(partition, (tail.tenant for tail in tails if tail.after <= 0))
        numbers: dict[int, list[int]] = defaultdict(list)
        for number, tail in enumerate(tails):
            if tail.after <= 0 and tail.tenant in past:
                numbers[past[tail.tenant][-1].partition].append(number)
        return numbers

    async def answers(self, partition: int, appends: Sequence[Append]) -> PastAnswers | None:
        """Return what the past answers for appends; None where nobody comes from elsewhere."""
        past = await self._before(partition, (append.tenant for append in appends))
        if not past:
            return None
        return PastAnswers(await self._keys(partition, appends, past), await self._happened(appends, past))

    async def _keys(
        self, partition: int, appends: Sequence[Append], past: Mapping[str, Sequence[Residence]]
    ) -> Mapping[int, _Found]:
        asked = [
            (number, append.tenant, append.key.subject, append.key.key)
            for number, append in enumerate(appends)
            if append.key is not None and append.tenant in past
        ]
        if not asked:
            return {}
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("moved_keys"), partition, *zip(*asked, strict=True)
            ),
        )
        return {
            row["number"]: _Found(
                row["fingerprint"],
                Outcome(
                    Answer.DUPLICATE, row["position"], row["events"],
                    mark_of(row["commit_position"], row["commit_hash"]), row["stream"], row["version"], None,
                    row["written_in"],
                ),
            )
            for row in rows
        }  # fmt: skip

    async def _happened(
        self, appends: Sequence[Append], past: Mapping[str, Sequence[Residence]]
    ) -> frozenset[int]:
        """Return the numbers of appends whose conditions ask from the beginning, and do not hold in the past."""
        asked: dict[int, list[tuple[int, str, Sequence[str], Sequence[str]]]] = defaultdict(list)
        for number, append in enumerate(appends):
            for condition in append.conditions if append.tenant in past else ():
                if condition.after <= 0:
                    for residence in past[append.tenant]:
                        asked[residence.partition] += [
                            (number, append.tenant, item.tags, item.types) for item in condition.items
                        ]
        found: set[int] = set()
        for partition, items in asked.items():
            found.update(await self._matching(partition, items))
        return frozenset(found)

    async def _matching(
        self, partition: int, items: Sequence[tuple[int, str, Sequence[str], Sequence[str]]]
    ) -> Iterable[int]:
        numbers, tenants, tags, types = zip(*items, strict=True)
        rows = await self._servers.read(
            partition,
            lambda connection: connection.fetch(
                self._servers.sql("happened"), partition, numbers, tenants, [TAG_SEPARATOR.join(one) for one in tags],
                [TAG_SEPARATOR.join(one) for one in types],
            ),
        )  # fmt: skip
        return [row["number"] for row in rows]
