"""
Azure Blob Storage over its REST API, as an object store: Put Blob and Get Blob, nothing else.

The address is a container's, `https://ACCOUNT.blob.core.windows.net/CONTAINER`, or with the account as the first part
of the path, as the emulator has it. It carries a shared access signature as its query, or an account key stands
beside it: then each request is signed (SharedKey). No redirect is followed.

Source: "Authorize with Shared Key", "Put Blob" and "Get Blob" of the Azure Storage REST API reference, 2021-12-02.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx2
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from event_store.object_errors import ArchiveUnavailable, ObjectMissing
from schemas.errors import BadDefinition

VERSION = "2021-12-02"
SECONDS_MAX = 60.0
ATTEMPTS_MAX = 4
PAUSE_SECONDS_MAX = 3.0
CONNECTIONS_MAX = 8
TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
HOST_SUFFIX = ".blob.core."
_SIGNED_HEADERS = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


class _TryAgain(Exception):
    """An answer that says: later."""


class AzureBlobs:
    """One container of Azure Blob Storage."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """
        Make a client; `key` is the account's, in base64, where the address has no signature of its own.

        Raises:
            BadDefinition: The address or the key cannot be used.
        """
        parts = urlsplit(url)
        self._root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._signature = parts.query
        self._account = _account_of(parts.hostname or "", parts.path)
        try:
            self._key = base64.b64decode(key, validate=True) if key else None
        except ValueError as error:
            raise BadDefinition("EVERFOLD_ARCHIVE_KEY", "is not base64") from error
        if not parts.path.strip("/"):
            raise BadDefinition("EVERFOLD_ARCHIVE_URL", "names no container")
        if self._key is None and "sig" not in dict(parse_qsl(parts.query)):
            raise BadDefinition(
                "EVERFOLD_ARCHIVE_URL", "has no signature (?…&sig=…), and EVERFOLD_ARCHIVE_KEY is not set"
            )
        self._http = httpx2.AsyncClient(
            timeout=SECONDS_MAX,
            limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
            follow_redirects=False,
            trust_env=False,
        )

    async def put(self, name: str, content: bytes) -> None:
        """Keep bytes under a name; the service answers once they are durable, and checks their MD5."""
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(len(content)),
            "content-md5": base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
            "x-ms-blob-type": "BlockBlob",
        }
        await self._request("PUT", name, headers, content)

    async def get(self, name: str, start: int = 0, octets: int | None = None) -> bytes:
        """Return what is kept under a name, or a part of it."""
        headers = {}
        if start or octets is not None:
            headers["range"] = f"bytes={start}-{'' if octets is None else start + octets - 1}"
        answer = await self._request("GET", name, headers)
        return answer.content

    async def make_container(self) -> None:
        """Make the container, unless it is there."""
        await self._request("PUT", "", {"content-length": "0"}, query="restype=container", also={409})

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _request(
        self,
        method: str,
        name: str,
        headers: Mapping[str, str],
        content: bytes = b"",
        *,
        query: str = "",
        also: frozenset[int] | set[int] = frozenset(),
    ) -> httpx2.Response:
        url = f"{self._root}/{quote(name)}" if name else self._root
        asked = "&".join(filter(None, (query, self._signature)))
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(ATTEMPTS_MAX),
                wait=wait_random_exponential(multiplier=0.1, max=PAUSE_SECONDS_MAX),
                retry=retry_if_exception_type((_TryAgain, httpx2.TransportError)),
                reraise=True,
            ):
                with attempt:
                    answer = await self._http.request(
                        method,
                        f"{url}?{asked}" if asked else url,
                        headers=self._signed(method, url, query, headers),
                        content=content,
                    )
                    if answer.status_code in TRY_AGAIN:
                        raise _TryAgain(_words(answer))
        except (_TryAgain, httpx2.TransportError) as error:
            raise ArchiveUnavailable(name, str(error) or type(error).__name__) from error
        if answer.status_code == HTTPStatus.NOT_FOUND and "BlobNotFound" in _words(answer):
            raise ObjectMissing(name)
        if not answer.is_success and answer.status_code not in also:
            raise ArchiveUnavailable(name, _words(answer))
        return answer

    def _signed(self, method: str, url: str, query: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return a request's headers, with its signature where an account key is given."""
        now = format_datetime(datetime.now(UTC), usegmt=True)
        signed = {**headers, "x-ms-date": now, "x-ms-version": VERSION}
        if self._key is not None:
            text = string_to_sign(method, self._account, urlsplit(url).path, query, signed)
            digest = hmac.new(self._key, text.encode(), hashlib.sha256).digest()
            signed["authorization"] = f"SharedKey {self._account}:{base64.b64encode(digest).decode()}"
        return signed


def string_to_sign(method: str, account: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Return what a SharedKey signature is over: the request in the form that the service rebuilds."""
    standard = ["" if (value := headers.get(name, "")) == "0" else value for name in _SIGNED_HEADERS]
    own = [f"{name}:{value}" for name, value in sorted(headers.items()) if name.startswith("x-ms-")]
    asked = [f"{name}:{value}" for name, value in sorted(parse_qsl(query))]
    return "\n".join([method, *standard, *own, f"/{account}{path}", *asked])


def _account_of(host: str, path: str) -> str:
    return host.partition(".")[0] if HOST_SUFFIX in host else unquote(path.strip("/").partition("/")[0])


def _words(answer: httpx2.Response) -> str:
    code = answer.headers.get("x-ms-error-code", "")
    return f"the service answered {answer.status_code} {code}".rstrip()
