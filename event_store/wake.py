"""
Wakes followers of the log when it has grown, and tells others when something has been applied.

Notifications are news that may be lost, doubled or late, and may not exist at all behind a transaction pooler:
every follower also looks by itself now and then. They are sent after the commit, never inside it, where they would
make all commits of the server wait for each other.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from event_store.failures import NO_REPLY
from infra.telemetry import log

RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX = 0.2, 5.0
ALIVE_SECONDS = 10.0
CONNECT_SECONDS_MAX = 5.0
PAUSE_SECONDS = 0.005
"""Between two notifications: each wakes every process that listens."""

Heard = Callable[[str], None]


class Listener:
    """Listens on one channel of some servers, and connects again when a connection is lost."""

    def __init__(self, urls: Sequence[str], channel: str, heard: Heard) -> None:
        self._urls = list(dict.fromkeys(urls))
        self._channel = channel
        self._heard = heard
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Listener":
        self._tasks = [
            asyncio.create_task(self._listen(url), name=f"listen {self._channel}") for url in self._urls
        ]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, url: str) -> None:
        pause_seconds = RECONNECT_SECONDS_MIN
        while True:
            try:
                connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX, statement_cache_size=0)
                try:
                    await connection.add_listener(self._channel, self._notified)
                    pause_seconds = RECONNECT_SECONDS_MIN
                    while True:
                        await asyncio.sleep(ALIVE_SECONDS)
                        await connection.execute("SELECT 1", timeout=CONNECT_SECONDS_MAX)
                finally:
                    with suppress(Exception):
                        await connection.close(timeout=1)
            except NO_REPLY as error:
                log.info("not listening", channel=self._channel, error=repr(error))
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, RECONNECT_SECONDS_MAX)

    def _notified(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._heard(str(payload))


class HeadWatch:
    """Knows how far partitions have grown, as far as the appenders have told."""

    def __init__(self, urls: Sequence[str], namespace: str) -> None:
        self._listener = Listener(urls, f"{namespace}_head", self._heard)
        self._positions: dict[int, int] = defaultdict(int)
        self._waiting: dict[int, set[asyncio.Future[None]]] = defaultdict(set)

    async def __aenter__(self) -> "HeadWatch":
        await self._listener.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._listener.__aexit__(*exception)

    def _heard(self, payload: str) -> None:
        partition, _, position = payload.partition(":")
        if partition.isdigit() and position.isdigit():
            self.grown(int(partition), int(position))

    def grown(self, partition: int, position: int) -> None:
        """Take note that a partition has grown, and wake who waits for it."""
        self._positions[partition] = position
        for waiter in self._waiting.pop(partition, ()):
            if not waiter.done():
                waiter.set_result(None)

    def heard(self, partition: int) -> int:
        """Return how far a partition is said to have grown; 0 where nothing was said."""
        return self._positions[partition]

    def disbelieve(self, partition: int, position: int) -> None:
        """Take note that the log does not reach so far, whatever was said: it may have lost its end since."""
        if self._positions[partition] == position:
            self._positions[partition] = 0

    async def wait_beyond(self, partition: int, position: int, seconds: float) -> None:
        """Wait until a partition is said to have grown beyond a position, or the time is over."""
        if self._positions[partition] > position:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[partition].add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            self._waiting[partition].discard(waiter)


class Notifier:
    """Tells that partitions have changed, many in one statement, and never keeps the caller waiting."""

    def __init__(self, pool: "asyncpg.Pool[Any]", channel: str) -> None:
        self._pool = pool
        self._channel = channel
        self._pending: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Notifier":
        self._task = asyncio.create_task(self._run(), name=f"notify {self._channel}")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def tell(self, payload: str) -> None:
        """Send a notification soon; the same payload waiting already is sent once."""
        self._pending.add(payload)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            payloads, self._pending = sorted(self._pending), set()
            try:
                await self._pool.execute(
                    "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload",
                    self._channel,
                    payloads,
                )
            except NO_REPLY as error:
                log.info("not notified", channel=self._channel, error=repr(error))
                await asyncio.sleep(RECONNECT_SECONDS_MIN)
            await asyncio.sleep(PAUSE_SECONDS)
