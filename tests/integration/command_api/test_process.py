"""The role as a process: raw sockets against it, signals, and deaths."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psycopg
import pytest

from infra.auth import issue_development_token
from infra.embedded.ports import free_port
from tests.integration.command_api.clients import TENANT, settings_for
from tests.load import Request, run_clients
from tests.raw_http import exchange, status_of

START_SECONDS_MAX = 60
ROOT = Path(__file__).parents[3]


@dataclass
class Role:
    """A running command API."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx2.Client:
        """Return a client with a token."""
        return httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30, trust_env=False
        )


@contextmanager
def role(
    store_url: str, folder: Path, *, port: int | None = None, root: Path = ROOT, **variables: str
) -> Iterator[Role]:
    """Run a command API for a block: this program's, or that of the source tree `root`."""
    port = port or free_port()
    environment = {name: text for name, text in os.environ.items() if not name.startswith("EVERFOLD_")} | {
        "EVERFOLD_STORE_URL": store_url,
        "EVERFOLD_DATA_DIR": str(folder),
        "EVERFOLD_DOMAINS": "toy",
        **variables,
    }
    token = issue_development_token(settings_for(store_url, folder), tenant=TENANT, roles=["clerk"])
    with (folder / f"command-api-{port}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "command-api", "--port", str(port)],
            cwd=root, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    running = Role(process, port, token)
    try:
        _wait_until_ready(running)
        yield running
    finally:
        process.kill()
        process.wait(30)


def _wait_until_ready(running: Role) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and running.process.poll() is None:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{running.url}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the command API did not become ready")


def wait_for(what: Callable[[], bool], seconds_max: float = 30) -> None:
    deadline = time.monotonic() + seconds_max
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def stored(store_url: str) -> list[tuple[str, str, str]]:
    """Return all events: stream, id, idempotency key."""
    with psycopg.connect(store_url) as connection:
        rows = connection.execute(
            "SELECT stream, id::text, convert_from(metadata, 'UTF8')::json->>'idempotency_key' FROM everfold.events"
        ).fetchall()
    return [(str(stream), str(event_id), str(key)) for stream, event_id, key in rows]


OPEN = b'{"owner": "Ann"}'


def test_raw_sockets_get_problems_and_the_process_goes_on(
    store_url: str, tmp_path: Path
) -> None:  # S26, S29, S30
    with role(store_url, tmp_path) as running:
        authorization = f"Authorization: Bearer {running.token}\r\n".encode()

        def post(headers: bytes, body: bytes, account: bytes = b"A") -> bytes:
            return (
                b"POST /v1/accounts/" + account + b"/open HTTP/1.1\r\nHost: x\r\n" + authorization
                + b"Content-Type: application/json\r\n" + headers + b"\r\n" + body
            )  # fmt: skip

        cases = {
            "length over the limit": (post(b"Content-Length: 2000000\r\n", b""), 413),
            "no number as length": (post(b"Content-Length: x\r\n", b""), 400),
            "chunks over the limit": (
                post(
                    b"Transfer-Encoding: chunked\r\n",
                    (b"40000\r\n" + b"x" * 0x40000 + b"\r\n") * 5 + b"0\r\n\r\n",
                ),
                413,
            ),
            "length and chunks": (
                post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
                400,
            ),
            "bad chunk": (post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n"), 400),
            "folded header": (post(b"X-A: b\r\n c\r\nContent-Length: 0\r\n", b""), 400),
            "not HTTP": (b"hello\r\n\r\n", 400),
            "a header of 64 KB": (post(b"X-A: " + b"x" * 65_536 + b"\r\n", b""), 431),
            "an endless header": (b"GET / HTTP/1.1\r\nX-A: " + b"x" * 200_000, 431),
            "an address of 16 KB": (b"GET /" + b"x" * 16_384 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
            "a host that is none": (b"GET /livez HTTP/1.1\r\nHost: a/b?c\r\n\r\n", 400),
            "two hosts": (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        }
        found = {
            name: (status_of(exchange(running.port, request)), status)
            for name, (request, status) in cases.items()
        }
        assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}
        assert stored(store_url) == []
        answer = exchange(running.port, post(b"Content-Length: 16\r\n", OPEN))
        assert status_of(answer) == 200
        chunked = exchange(
            running.port,
            post(
                b"Transfer-Encoding: chunked\r\n",
                b"8\r\n" + OPEN[:8] + b"\r\n8\r\n" + OPEN[8:] + b"\r\n0\r\n\r\n",
                b"B",
            ),
        )
        assert status_of(chunked) == 200


def test_clients_that_hang_up_at_any_byte_harm_nobody(store_url: str, tmp_path: Path) -> None:  # F05
    with role(store_url, tmp_path) as running:
        request = (
            f"POST /v1/accounts/A/open HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(OPEN)}\r\n\r\n"
        ).encode() + OPEN
        for cut in range(1, len(request) + 1, 7):
            with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
                connection.sendall(request[:cut])
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )
        with running.client() as http:
            for number in range(50):
                answer = http.post(f"/v1/accounts/C{number}/open", json={"owner": "Ann"})
                assert answer.json()["stream"] == f"accounts/C{number}"
        with psycopg.connect(store_url) as connection:
            (idle,) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state LIKE 'idle in transaction%'"
            ).fetchone() or (0,)
        assert idle == 0


def test_a_process_told_to_end_refuses_late_requests_and_leaves_nothing_unanswered(
    store_url: str, tmp_path: Path
) -> None:  # F09
    with role(store_url, tmp_path) as running:
        with running.client() as http:
            assert http.post("/v1/accounts/A/open", json={"owner": "Ann"}).status_code == 200
            running.process.send_signal(signal.SIGTERM)
            statuses = set()
            with suppress(httpx2.TransportError):
                while True:
                    answer = http.post("/v1/accounts/A/deposit", json={"cents": 1})
                    statuses.add(answer.status_code)
                    if answer.status_code == 503:
                        assert answer.headers["retry-after"] == "1"
                        assert http.get("/readyz").status_code == 503
        assert statuses <= {200, 503}
        assert 503 in statuses
        assert running.process.wait(20) == 0


@pytest.mark.parametrize(
    "step",
    [
        "pipeline.before_decide",
        "pipeline.before_load",
        "pipeline.after_load",
        "pipeline.before_append",
        "append.before_send",
        "append.after_reply",
        "pipeline.after_commit",
        "pipeline.before_answer",
    ],
)
async def test_a_kill_at_any_step_of_an_append_loses_nothing_and_repeats_nothing(
    store_url: str, tmp_path: Path, step: str
) -> None:
    """F01, F03"""
    port, prefix = free_port(), step.replace(".", "-").replace("_", "-")

    def next_request(client: int, number: int) -> Request | None:
        account = f"{prefix}-{client}-{number}"
        return Request(f"/v1/accounts/{account}/open", {"owner": "Ann"}, account) if number < 10 else None

    with role(store_url, tmp_path, port=port, EVERFOLD_FAILPOINTS=f"{step}=kill@4") as dying:
        load = asyncio.create_task(
            run_clients(url=dying.url, token=dying.token, clients=8, next_request=next_request)
        )
        await asyncio.to_thread(wait_for, lambda: dying.process.poll() is not None)
        assert dying.process.returncode == -signal.SIGKILL
        with role(store_url, tmp_path, port=port):
            ledger = await asyncio.wait_for(load, 60)
    assert (ledger.unknown, ledger.rejected) == ({}, {})
    found = {key: event_id for stream, event_id, key in stored(store_url) if prefix in stream}
    assert found == {key: ids[0] for key, ids in ledger.acknowledged.items()}
    assert len(found) == 8 * 10


def test_a_port_that_is_taken_is_said_to_be(store_url: str, tmp_path: Path) -> None:
    with role(store_url, tmp_path) as running:
        second = subprocess.run(
            [sys.executable, "-m", "infra.cli", "command-api", "--port", str(running.port)],
            cwd=ROOT,
            env={
                **os.environ,
                "EVERFOLD_STORE_URL": store_url,
                "EVERFOLD_DATA_DIR": str(tmp_path),
                "EVERFOLD_DOMAINS": "toy",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode != 0
        assert str(running.port) in second.stderr.splitlines()[-1]
        assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--roles", ""], [], ["--roles", "clerk", "--ttl", "0"], ["--roles", "clerk", "--tenant", "a b"]],
)
def test_a_token_command_used_wrongly_says_so(arguments: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "EVERFOLD_DATA_DIR": str(tmp_path), "EVERFOLD_DOMAINS": "toy"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "token", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert not done.stdout


def test_a_token_stands_alone_on_the_last_line_and_only_the_development_issuer_gives_one(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "EVERFOLD_DATA_DIR": str(tmp_path), "EVERFOLD_DOMAINS": "toy"}
    command = [sys.executable, "-m", "infra.cli", "token", "--tenant", "acme", "--roles", "clerk,viewer"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1].count(".") == 2
    refused = subprocess.run(
        command, cwd=ROOT, env={**environment, "EVERFOLD_OIDC_ISSUER": "https://issuer.test"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "EVERFOLD_OIDC_ISSUER" in refused.stderr
