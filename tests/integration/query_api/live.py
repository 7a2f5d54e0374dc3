"""Live streams under test: an API on a real socket, and streams of it as their messages arrive."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson

from infra.embedded.ports import free_port
from infra.serving import server_of
from query_api.app import QueryApi
from tests.bench.queries import answers

SECONDS_MAX = 20.0


@dataclass(frozen=True)
class Message:
    """One message of a stream."""

    event: str
    id: str | None
    data: Mapping[str, Any]

    @property
    def key(self) -> str:
        return str(self.data["key"])

    @property
    def document(self) -> Any:
        return self.data["document"]


@dataclass
class Transcript:
    """What a stream has said so far."""

    response: httpx2.Response
    messages: list[Message] = field(default_factory=list)
    mark: str | None = None
    comments: int = 0
    _lines: AsyncIterator[str] | None = None

    async def next(self, seconds: float = SECONDS_MAX) -> Message:
        """Return the next message; comments are counted."""
        async with asyncio.timeout(seconds):
            fields: dict[str, str] = {}
            if self._lines is None:
                self._lines = self.response.aiter_lines()
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif fields:
                    self.mark = fields.get("id", self.mark)
                    if "data" in fields:
                        found = Message(fields["event"], fields.get("id"), orjson.loads(fields["data"]))
                        self.messages.append(found)
                        return found
                    fields = {}
            raise EOFError

    async def until(self, event: str) -> list[Message]:
        """Return the messages up to and with one of a kind."""
        found = [await self.next()]
        while found[-1].event != event:
            found.append(await self.next())
        return found

    async def change(self, key: str, **document: Any) -> Message:
        """Return the first change from here on in which a document has some values."""
        while True:
            found = await self.next()
            if found.event == "change" and found.key == key:
                there = found.document or {"gone": True}
                if all(there.get(name) == value for name, value in document.items()):
                    return found

    async def says_nothing(self, seconds: float = 0.5) -> bool:
        """Say whether nothing comes for a while."""
        try:
            await self.next(seconds)
        except TimeoutError:
            return True
        return False


@dataclass
class ServerProcess:
    """A process of the query API on the toy domain, to be killed and started again."""

    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.query_server", "ours", str(self.port),
            env={**os.environ, **self.environment},
        )  # fmt: skip
        await answers(f"{self.url}/readyz")

    async def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


@asynccontextmanager
async def served(api: QueryApi, *, port: int = 0, send_buffer: int = 0) -> AsyncIterator[str]:
    """Serve an API on a port of its own for a block, and yield its address; `send_buffer` bounds the kernel's."""
    port = port or free_port()
    server = server_of(api.edge, host="127.0.0.1", port=port)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    if send_buffer:
        for listener in server.servers[0].sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    loop = asyncio.create_task(server.main_loop())
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        api.edge.drain()
        server.should_exit = True
        await loop
        with suppress(Exception):
            await server.shutdown()


@asynccontextmanager
async def stream(
    url: str, token: str | None, path: str = "/v1/live?views=accounts", **headers: str
) -> AsyncIterator[Transcript]:
    """Keep a stream open for a block."""
    if token:
        headers["authorization"] = f"Bearer {token}"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        httpx2.AsyncClient(timeout=httpx2.Timeout(None, connect=5), trust_env=False) as client,
        client.stream("GET", f"{url}{path}", headers=names) as response,
    ):
        if response.status_code != 200:
            await response.aread()
        yield Transcript(response)
