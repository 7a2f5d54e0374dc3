"""A TCP proxy in front of a server that cuts connections when told, or loses what is sent, at the worst of moments."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

PART_BYTES_MAX = 65_536


@dataclass(eq=False)
class Link:
    """One connection that is passed on; what a deaf direction is sent is lost, and neither end is told."""

    loses_requests: bool = False
    loses_answers: bool = False


class Proxy:
    """Passes bytes on; `cut_after` and `cut_before` end a connection around a client's bytes."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.cut_after: Callable[[bytes], bool] | None = None
        """Whether to cut both ways once these bytes have been passed on to the server."""
        self.cut_before: Callable[[bytes], bool] | None = None
        """Whether to cut both ways instead of passing these bytes on."""
        self.refuses = False
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._links: set[Link] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if self.refuses:
            writer.close()
            return
        to_reader, to_writer = await asyncio.open_connection(self._host, self._port)
        both, link = (writer, to_writer), Link()
        self._writers.update(both)
        self._links.add(link)
        back = asyncio.create_task(self._pass(to_reader, writer, link))
        with suppress(ConnectionError):
            await self._until_cut(reader, to_writer, link)
        self._links.discard(link)
        back.cancel()
        for end in both:
            end.close()
        self._writers.difference_update(both)

    async def _until_cut(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        while part := await reader.read(PART_BYTES_MAX):
            if link.loses_requests:
                continue
            if self.cut_before is not None and self.cut_before(part):
                break
            writer.write(part)
            await writer.drain()
            if self.cut_after is not None and self.cut_after(part):
                break
        else:
            return
        self.cuts += 1

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(PART_BYTES_MAX):
                if not link.loses_answers:
                    writer.write(part)
        writer.close()

    def lead_to(self, url: str) -> None:
        """Pass connections to come on to another server."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or self._host, parts.port or self._port

    def swallow(self, *, requests: bool = True, answers: bool = True) -> None:
        """Lose from now on what present connections send, one way or both; connections to come are whole."""
        for link in self._links:
            link.loses_requests, link.loses_answers = requests, answers

    def cut_all(self) -> None:
        """End every connection now."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Keep a proxy to a database for a block; yields it and the address through it."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5432)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    user, at, _ = parts.netloc.rpartition("@")
    try:
        yield proxy, parts._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()
    finally:
        proxy.refuses = True
        proxy.cut_all()
        server.close()
