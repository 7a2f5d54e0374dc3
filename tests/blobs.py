"""
A stand-in for Azure Blob Storage: one container in memory, which checks every request's SharedKey signature.

It rebuilds what is signed from the request itself, as the service's documentation says, with none of our code.
"""

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from infra.embedded.ports import LOOPBACK

ACCOUNT = "standin"
KEY = base64.b64encode(b"the key of the stand-in, for tests alone").decode()
SIGNED = (
    "Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
    "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
)  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    blobs: dict[str, bytes]
    failures: list[int]

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self._is_let_in():
            return
        checked = base64.b64encode(hashlib.md5(content).digest()).decode()
        if self._name() and self.headers.get("Content-MD5") != checked:
            self._answer(400, code="Md5Mismatch")
            return
        self.blobs[self._name()] = content
        self._answer(201)

    def do_GET(self) -> None:
        if not self._is_let_in():
            return
        content = self.blobs.get(self._name())
        if content is None:
            self._answer(404, code="BlobNotFound")
            return
        asked = self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            content = content[int(first) : int(last) + 1 if last else None]
        self._answer(206 if asked else 200, content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path.partition(f"/{ACCOUNT}/")[2]).partition("/")[2]

    def _is_let_in(self) -> bool:
        if self.failures:
            self._answer(self.failures.pop(), code="ServerBusy")
            return False
        is_signed = self.headers.get("Authorization") == f"SharedKey {ACCOUNT}:{self._signature()}"
        if not is_signed:
            self._answer(403, code="AuthenticationFailed")
        return is_signed

    def _signature(self) -> str:
        parts = urlsplit(self.path)
        lines = [self.command]
        for name in SIGNED:
            value = self.headers.get(name, "")
            lines.append("" if name == "Content-Length" and value == "0" else value)
        own = {
            name.lower(): value for name, value in self.headers.items() if name.lower().startswith("x-ms-")
        }
        lines += [f"{name}:{own[name]}" for name in sorted(own)]
        resource = f"/{ACCOUNT}{parts.path}"
        for name, value in sorted(parse_qsl(parts.query)):
            resource += f"\n{name}:{value}"
        lines.append(resource)
        digest = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()

    def _answer(self, status: int, body: bytes = b"", *, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("x-ms-error-code", code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class StandIn:
    """The stand-in as it runs."""

    def __init__(self, url: str, failures: list[int]) -> None:
        self.url = url
        self.failures = failures
        """The statuses that the next requests are answered with."""


@contextmanager
def blob_stand_in() -> Iterator[StandIn]:
    """Run the stand-in for a block."""
    failures: list[int] = []
    handler = type("Handler", (_Handler,), {"blobs": {}, "failures": failures})
    server = ThreadingHTTPServer((LOOPBACK, 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield StandIn(f"http://{LOOPBACK}:{server.server_port}/{ACCOUNT}", failures)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
