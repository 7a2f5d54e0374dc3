"""A TCP proxy in front of PostgreSQL that cuts connections when told, at the worst of moments."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

PART_BYTES_MAX = 65_536


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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if self.refuses:
            writer.close()
            return
        to_reader, to_writer = await asyncio.open_connection(self._host, self._port)
        both = (writer, to_writer)
        self._writers.update(both)
        back = asyncio.create_task(self._pass(to_reader, writer))
        with suppress(ConnectionError):
            await self._until_cut(reader, to_writer)
        back.cancel()
        for end in both:
            end.close()
        self._writers.difference_update(both)

    async def _until_cut(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(PART_BYTES_MAX):
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
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(PART_BYTES_MAX):
                writer.write(part)
        writer.close()

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
