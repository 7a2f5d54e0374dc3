"""
Tells followers of a server that its log has grown, after the commit and without delaying its answer.

`NOTIFY` takes a lock of the whole server while its transaction commits, so it is never part of an append: one task
sends the newest position of each partition on a connection of its own, at most every few milliseconds. News may be
lost (the server away, the process gone); followers look at the head besides, so nothing rests on it.
"""

import asyncio
from contextlib import suppress

from event_store.connections import StoreConnection, connect
from event_store.failures import NO_REPLY
from infra.telemetry import log
from schemas.errors import StoreUnavailable

PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.005, 0.02
SECONDS_AN_EVENT = 0.0005
"""News of so many events buys so long a pause: followers of a log that grows fast read on by themselves (pace.py)."""
RETRY_SECONDS = 1.0
SEND_SECONDS_MAX = 5.0
AWAY = (StoreUnavailable, *NO_REPLY)


class Announcer:
    """Sends `<partition>:<position>` on the channel `{namespace}_head` of one server."""

    def __init__(self, url: str, namespace: str, role: str | None = None) -> None:
        self._url, self._channel, self._role = url, f"{namespace}_head", role
        self._newest: dict[int, int] = {}
        self._told: dict[int, int] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def announce(self, partition: int, position: int) -> None:
        """Have followers told, soon; what has not been sent yet is replaced by what is newer."""
        self._newest[partition] = max(position, self._newest.get(partition, 0))
        self._woken.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="announcer")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        connection: StoreConnection | None = None
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                try:
                    if connection is None or connection.is_closed():
                        connection = await connect(self._url, name="everfold-announcer", role=self._role)
                    async with asyncio.timeout(SEND_SECONDS_MAX):
                        events = await self._send(connection)
                    pause_seconds = min(PAUSE_SECONDS_MAX, events * SECONDS_AN_EVENT)
                    await asyncio.sleep(max(PAUSE_SECONDS_MIN, pause_seconds))
                except AWAY as error:
                    log.warning(
                        "followers not told of news", channel=self._channel, error=type(error).__name__
                    )
                    if connection is not None:
                        connection.terminate()
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            if connection is not None:
                connection.terminate()

    async def _send(self, connection: StoreConnection) -> int:
        """Tell what is new, and return how many events that is."""
        newest, self._newest = self._newest, {}
        events = sum(position - self._told.get(partition, position) for partition, position in newest.items())
        self._told |= newest
        news = [f"{partition}:{position}" for partition, position in newest.items()]
        await connection.execute(
            "SELECT pg_notify($1, news) FROM unnest($2::text[]) AS news", self._channel, news
        )
        return events
