"""
Positions both ways: which history a request's position belongs to, and how long to wait for it.

An answer is fresh when what it reflects has reached the asked position; each answer says what that is. A
position is checked against the log's own chain of commits before anything is waited for: after a failover that
lost a tail, the same number may come to mean other events.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

from event_store.log import EventLog
from event_store.residences import Residences
from query_api.answers import Answer, Asked, Reader
from query_api.applied import ReadSide
from query_api.flights import Flights
from query_api.preferences import WAIT_SECONDS_DEFAULT, Preferences
from schemas.errors import MalformedRequest, PositionLost, ProjectionBehind, ServiceError, StoreUnavailable
from schemas.position import Position, parse_position

VERIFIED_MAX = 10_000
VERIFIED_SECONDS = 5.0
AGAIN_SECONDS = 0.02
TENANTS_MAX = 100_000
HOME_SECONDS = 0.5
"""How long it is not asked again where a tenant lives; the log itself knows it for a while."""
NEWS_SECONDS, NEWS_TRIES = 0.25, 11
"""How often the log is asked again for a move that somebody else speaks of: it hears of it in two seconds."""
NO_PREFIX = "00000000"

AnyError = TypeVar("AnyError", bound=ServiceError)


@lru_cache(maxsize=8_192)
def token_of(tenant: str, partition: int, position: int, hash_prefix: str) -> bytes:
    """Return a position as this tenant's clients carry it."""
    return Position(partition, position, hash_prefix).token(tenant).encode()


def with_position(error: AnyError, asked: Asked, answer: Answer) -> AnyError:
    """Return an error whose answer says what it reflects."""
    token = token_of(asked.tenant, answer.place(asked), answer.position, answer.hash_prefix)
    error.__dict__["headers"] = ((b"everfold-position", token),)
    return error


class Home(NamedTuple):
    """Where a tenant's events are now."""

    partition: int
    arrived: int
    """The position of its arrival there; 0: it has always been there."""


class History:
    """What queries need to know of the log: tenants' partitions, and the hashes of commits."""

    def __init__(self, log: EventLog, era: Callable[[], str] = lambda: "") -> None:
        self._log = log
        self._era = era
        self._homes: OrderedDict[str, tuple[Home, float]] = OrderedDict()
        self._verified: OrderedDict[tuple[Position, str], float] = OrderedDict()
        self._flights: Flights[str | None] = Flights()

    def known_home(self, tenant: str) -> Home | None:
        """Return where a tenant's events are, if that has been asked a moment ago."""
        known = self._homes.get(tenant)
        return known[0] if known is not None and known[1] > time.monotonic() else None

    async def home_of(self, tenant: str) -> Home:
        """
        Return where a tenant's events are; with the server away that has the word on it, as another knows it.

        Raises:
            StoreUnavailable: None answers.
        """
        home = _home(await self._log.residences_of(tenant))
        self._homes[tenant] = home, time.monotonic() + HOME_SECONDS
        if len(self._homes) > TENANTS_MAX:
            self._homes.popitem(last=False)
        return home

    async def moved_from(self, tenant: str, partition: int) -> Home:
        """
        Return where a tenant has gone that does not live in a partition any more, as somebody who knows has said.

        Raises:
            StoreUnavailable: Nobody else says so yet.
        """
        for _ in range(NEWS_TRIES):
            home = await self.home_of(tenant)
            if home.partition != partition:
                return home
            await asyncio.sleep(NEWS_SECONDS)
        raise StoreUnavailable

    async def hash_prefix(self, partition: int, position: int) -> str | None:
        """Return the first digits of the hash of a position's commit; None when it is still to come."""

        async def ask() -> str | None:
            commit = await self._log.commit_of(partition, position)
            return commit.hash[:4].hex() if commit else None

        return await self._flights.join((partition, position), ask)

    async def parse(self, token: str, tenant: str) -> Position:
        """
        Return what an answer must reflect for a position that a client carried back, where the tenant lives now.

        A position of a partition that the tenant has left is reflected by whatever is as new as its arrival.

        Raises:
            MalformedRequest: It is not this tenant's.
            PositionLost: The log has other events there now.
            StoreUnavailable: The log cannot be asked.
        """
        position = await self.verified(token, tenant)
        home = self.known_home(tenant) or await self.home_of(tenant)
        if position.partition == home.partition:
            return position
        prefix = await self.hash_prefix(home.partition, home.arrived) if home.arrived else None
        return Position(home.partition, home.arrived, prefix or NO_PREFIX)

    async def verified(self, token: str, tenant: str) -> Position:
        """
        Return the position that a client carried back, when it is one of this tenant and of this history.

        Raises:
            MalformedRequest, PositionLost, StoreUnavailable: As above.
        """
        position = parse_position(token, tenant)
        await self._lived_in(tenant, position.partition)
        known = position, self._era()
        if position.position == 0 or self._verified.get(known, 0.0) > time.monotonic():
            return position
        prefix = await self.hash_prefix(position.partition, position.position)
        if prefix is None:
            return position
        if prefix != position.hash_prefix:
            raise PositionLost(token)
        self._verified[known] = time.monotonic() + VERIFIED_SECONDS
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return position

    async def _lived_in(self, tenant: str, partition: int) -> None:
        """See that a tenant lives in a partition, or has: who made the position may have heard of a move before us."""
        home = self.known_home(tenant)
        if home is not None and home.partition == partition:
            return
        for number in range(NEWS_TRIES):
            if (await self._log.residences_of(tenant)).of(partition) is not None:
                await self.home_of(tenant)
                return
            if partition not in self._log.partitions:
                break
            if number + 1 < NEWS_TRIES:
                await asyncio.sleep(NEWS_SECONDS)
        raise MalformedRequest("Everfold-Position is not a position of this tenant")


def _home(residences: Residences) -> Home:
    present = residences.present
    return Home(present.partition, present.first_position if present.since is not None else 0)


class Fresh(NamedTuple):
    """An answer, and whether it is older than asked, as the client allowed."""

    answer: Answer
    is_stale: bool = False


async def read_fresh(
    reader: Reader, asked: Asked, needed: Position, side: ReadSide, preferences: Preferences
) -> Fresh:
    """
    Return an answer that reflects a position, waiting for it as long as the client says.

    When the wait is over, it is made from the log itself where that can be; who would rather have an older answer
    gets what there is.

    Raises:
        ProjectionBehind: The wait is over, and the answer is to be had nowhere.
        Overloaded: Too many are waiting already.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    seconds = WAIT_SECONDS_DEFAULT if preferences.wait_seconds is None else preferences.wait_seconds
    until = started + seconds
    answer = await reader.read(asked, needed.position)
    while answer.position < needed.position and not answer.is_held_up:
        if not await side.wait(reader.projections, asked.partition, needed.position, until):
            break
        answer = await reader.read(asked, needed.position)
        if answer.position < needed.position:
            if loop.time() >= until:
                break
            await asyncio.sleep(AGAIN_SECONDS)
    if answer.position >= needed.position:
        return Fresh(answer)
    if preferences.is_lenient:
        return Fresh(answer, is_stale=True)
    folded = await reader.read_log(asked)
    if folded is not None and folded.position >= needed.position:
        return Fresh(folded)
    behind = ProjectionBehind(needed.token(asked.tenant), round(loop.time() - started, 3))
    raise with_position(behind, asked, answer)


async def read_changed(
    reader: Reader, asked: Asked, before: Answer, side: ReadSide, seconds: float
) -> Answer:
    """
    Wait for an answer that differs from what the client has; return the last one there was.

    Raises:
        Overloaded: Too many are waiting already.
    """
    until = asyncio.get_running_loop().time() + seconds
    answer, seen = before, before.position
    while answer.digest == before.digest:
        if not await side.wait_for_change(reader.projections, asked.partition, seen, until):
            break
        applied = [side.applied(name, asked.partition).position for name in reader.projections]
        seen = max(applied)
        answer = await reader.read(asked, min(applied))
    return answer
