"""
Sends a message to a webhook, signed as the Standard Webhooks specification says.

The signature is over id, time of the attempt and body, so a receiver can tell a forged or an old message. Redirects
are not followed and proxies of the environment not used: the message goes to the server that the operator named, at
an address that was looked at (destinations.py); its certificate is that of the name. Whatever else the receiver answers
than its status is not looked at, beyond a bounded part that is thrown away.
"""

import asyncio
import hmac
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from command_api.channels import Channel
from command_api.destinations import NotAllowed, address_of
from command_api.outgoing import Outgoing

ANSWER_OCTETS_MAX = 64 * 1024
CONNECTIONS_MAX = 100
PORTS = {"http": 80, "https": 443}
RETRY_AFTER_SECONDS_MAX = 86_400.0


class NotDelivered(Exception):
    """
    A message was not taken, and why.

    `is_away` says that the receiver takes nothing now, whatever the message: it was not reached, did not answer in
    time, or says so itself. Else it was there and refused this one. `wait_seconds` is how long it asks to be left
    alone.
    """

    def __init__(
        self, reason: str, *, is_away: bool = True, is_final: bool = False, wait_seconds: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.reason, self.is_away, self.is_final, self.wait_seconds = reason, is_away, is_final, wait_seconds


def signature_of(keys: Sequence[bytes], message: str, timestamp: int, body: bytes) -> str:
    """Return the signatures of a message, one for each key, as they stand in `webhook-signature`."""
    signed = f"{message}.{timestamp}.".encode() + body
    return " ".join(f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys)


class Webhooks:
    """
    Sends messages over HTTP.

    Connections are to addresses, so each name has a client of its own: none is used for another name at the address.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._clients: dict[tuple[str, Path | None], httpx2.AsyncClient] = {}

    async def __aenter__(self) -> "Webhooks":
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def send(self, channel: Channel, message: Outgoing) -> None:
        """
        Send a message, and return once the receiver has taken it.

        Raises:
            NotDelivered: It has not, or not in time.
        """
        assert channel.webhook is not None
        timestamp = int(self._clock())
        headers = {
            "content-type": "application/json",
            "user-agent": "everfold",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature_of(channel.keys(), message.id, timestamp, message.body),
        }
        if message.traceparent is not None:
            headers["traceparent"] = message.traceparent
        try:
            async with asyncio.timeout(channel.timeout_seconds):
                status, wait_seconds = await self._post(channel, message.body, headers)
        except TimeoutError:
            raise NotDelivered(f"no answer within {channel.timeout_seconds:g} s") from None
        except (httpx2.HTTPError, OSError, NotAllowed) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise NotDelivered(
                f"answered {status}",
                is_away=says_away(status),
                is_final=status == HTTPStatus.GONE,
                wait_seconds=wait_seconds,
            )

    async def _post(self, channel: Channel, body: bytes, headers: Mapping[str, str]) -> tuple[int, float]:
        """Return the status of the answer, and how long the receiver asks to be left alone."""
        url = urlsplit(str(channel.webhook))
        host = str(url.hostname)
        address = await address_of(host, url.port or PORTS[url.scheme], private=channel.private)
        request = self._client(host, channel.ca_file).stream(
            "POST",
            url._replace(netloc=_netloc(address, url.port)).geturl(),
            content=body,
            headers={**headers, "host": url.netloc},
            extensions={"sni_hostname": host},
            timeout=None,
        )
        async with request as answer:
            wait_seconds = retry_after(answer.headers.get("retry-after"), self._clock())
            await _throw_away(answer)
            return answer.status_code, wait_seconds

    def _client(self, host: str, ca_file: Path | None) -> httpx2.AsyncClient:
        """Return the client of a name: one that goes nowhere but where it is told to."""
        client = self._clients.get((host, ca_file))
        if client is None:
            client = httpx2.AsyncClient(
                verify=ssl.create_default_context(cafile=ca_file),
                follow_redirects=False,
                trust_env=False,
                limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
            )
            self._clients[host, ca_file] = client
        return client


def _netloc(address: str, port: int | None) -> str:
    host = f"[{address}]" if ":" in address else address
    return host if port is None else f"{host}:{port}"


async def _throw_away(answer: httpx2.Response) -> None:
    """Read a short answer to its end, so that the connection can be used again; leave a long one."""
    octets = 0
    async for part in answer.aiter_raw():
        octets += len(part)
        if octets > ANSWER_OCTETS_MAX:
            return


def says_away(status: int) -> bool:
    """Say whether a status is about the receiver, which takes nothing now, and not about the message."""
    return status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


def retry_after(written: str | None, now: float) -> float:
    """Return how many seconds a receiver asks to be left alone; 0 where it says nothing that can be understood."""
    if not written:
        return 0.0
    if written.isdecimal():
        return min(float(written), RETRY_AFTER_SECONDS_MAX)
    try:
        moment = parsedate_to_datetime(written)
    except ValueError:
        return 0.0
    seconds = (moment.astimezone(UTC) - datetime.fromtimestamp(now, UTC)).total_seconds()
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)
