"""Receivers on this machine: a server that takes webhooks and answers as told, and a mail server."""

import asyncio
import base64
import hmac
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

SECRET = "whsec_" + base64.b64encode(b"a secret of the receiver's own").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"the secret that comes after it").decode()
SKEW_SECONDS_MAX = 300


@dataclass
class Taken:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The de-duplication key."""
        return self.headers["webhook-id"]

    @property
    def document(self) -> Any:
        """The body."""
        return orjson.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Check a signature as a receiver should."""
        stamp = self.headers["webhook-timestamp"]
        signed = b".".join([self.id.encode(), stamp.encode(), self.body])
        expected = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, "sha256")
        given = [one.partition(",") for one in self.headers["webhook-signature"].split()]
        return abs(int(stamp) - time.time()) < SKEW_SECONDS_MAX and any(
            version == "v1" and hmac.compare_digest(base64.b64decode(signature), expected)
            for version, _, signature in given
        )


@dataclass
class Receiver:
    """What came, and what to answer."""

    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    answers: Callable[[Taken, int], int] = lambda taken, number: 200
    """The status, by request and its number from 1; 0: hang up without one."""
    headers: str = ""
    """More lines of the answer's head."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers wait for it."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def ids(self) -> Sequence[str]:
        """The keys of what came, each as often as it did."""
        return [taken.id for taken in self.taken]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests of one connection."""
        try:
            while line := await reader.readline():
                taken = await _read(line, reader)
                self.taken.append(taken)
                number = len(self.taken)
                await self.gate.wait()
                status = self.answers(taken, number)
                if status == 0:
                    break
                rest = "\r\n" if status == 204 else "Content-Length: 2\r\n\r\nok"
                writer.write(f"HTTP/1.1 {status} X\r\n{self.headers}{rest}".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # whoever sent it is gone
        finally:
            writer.close()


async def _read(line: bytes, reader: asyncio.StreamReader) -> Taken:
    headers: dict[str, str] = {}
    while (head := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = head.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Taken(line.decode().split()[1], headers, body)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None, **given: Any) -> AsyncIterator[Receiver]:
    """Take webhooks for a block."""
    receiver = Receiver(**given)
    receiver.gate.set()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.gate.set()
        server.close()


@dataclass
class MailServer:
    """A mail server that keeps what it takes."""

    port: int = 0
    letters: list[bytes] = field(default_factory=list)
    refusals: int = 0
    """How many letters are to be refused, for now."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak SMTP with one client."""
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            match line.split()[0].upper():
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    letter = await reader.readuntil(b"\r\n.\r\n")
                    if self.refusals:
                        self.refusals -= 1
                        writer.write(b"451 later\r\n")
                    else:
                        self.letters.append(letter)
                        writer.write(b"250 taken\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 fine\r\n")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def mail_server(**given: Any) -> AsyncIterator[MailServer]:
    """Take mail for a block."""
    mail = MailServer(**given)
    server = await asyncio.start_server(mail.serve, "127.0.0.1", 0)
    mail.port = server.sockets[0].getsockname()[1]
    try:
        yield mail
    finally:
        server.close()
