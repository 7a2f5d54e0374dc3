"""
Connections to one server of the log, each used by one task at a time.

A connection goes back only when its last reply has been read. One whose task was cancelled, or that failed in any
way but by an error that the server reported, is closed: whoever borrowed it next would read another's answer.
Nothing rests on a session (no prepared state, no settings, no locks), so a transaction pooler may stand in between.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from infra.database_roles import role_problem, start_parameters
from schemas.errors import StoreUnavailable

CONNECT_SECONDS_MAX = 5.0
WAIT_SECONDS_MAX = 5.0
STATEMENTS_CACHED_MAX = 500


if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection


class StoreConnection(_Connection):
    """A connection that notes a warning of the server: a wait for a standby that was cut short is only a warning."""

    __slots__ = ("warned",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.warned = False
        self.add_log_listener(self._note)

    @staticmethod
    def _note(connection: Any, message: Any) -> None:
        if getattr(message, "severity_en", None) == "WARNING":
            connection.warned = True


@dataclass(eq=False)
class RoleNotTaken(StoreUnavailable, slug=StoreUnavailable.slug):
    """The event store does not let this program in; nothing has happened."""

    role: str
    problem: str


class Connections:
    """Up to `size_max` connections to one server, made when needed; the one used last is used next."""

    def __init__(
        self,
        url: str,
        *,
        size_max: int,
        name: str = "everfold",
        statements_cached_max: int = STATEMENTS_CACHED_MAX,
        role: str | None = None,
    ) -> None:
        self._url, self._name, self._statements_cached_max = url, name, statements_cached_max
        self._role = role
        self._idle: list[StoreConnection] = []
        self._free = asyncio.Semaphore(size_max)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[StoreConnection]:
        """
        Lend a connection.

        Raises:
            StoreUnavailable: There is none, and none to be had; nothing was sent.
        """
        connection = await self._take()
        try:
            yield connection
        except asyncpg.PostgresError:
            self._give_back(connection)
            raise
        except BaseException:
            self._end(connection)
            raise
        else:
            self._give_back(connection)

    async def close(self) -> None:
        """Close those that are not in use."""
        while self._idle:
            self._idle.pop().terminate()

    async def _take(self) -> StoreConnection:
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await self._free.acquire()
        except TimeoutError as error:
            raise StoreUnavailable from error
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                connection.warned = False
                return connection
        try:
            return await connect(
                self._url,
                name=self._name,
                statements_cached_max=self._statements_cached_max,
                role=self._role,
            )
        except BaseException:
            self._free.release()
            raise

    def _give_back(self, connection: StoreConnection) -> None:
        if connection.is_closed() or connection.is_in_transaction():
            self._end(connection)
        else:
            self._idle.append(connection)
            self._free.release()

    def _end(self, connection: StoreConnection) -> None:
        connection.terminate()
        self._free.release()


async def connect(
    url: str,
    *,
    name: str = "everfold",
    statements_cached_max: int = STATEMENTS_CACHED_MAX,
    role: str | None = None,
) -> StoreConnection:
    """
    Open a connection, in a role if one is given.

    Raises:
        StoreUnavailable: The server does not take it.
        RoleNotTaken: The role is not there, or the account may not take it.
    """
    try:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS_MAX,
            statement_cache_size=statements_cached_max,
            connection_class=StoreConnection,
            server_settings=dict(start_parameters(name, role)),
        )
    except asyncpg.PostgresError as error:
        if role is not None and (problem := role_problem(error.sqlstate, role)):
            raise RoleNotTaken(role, problem) from error
        raise StoreUnavailable from error
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise StoreUnavailable from error
