"""
A closed-loop load generator in a process of its own, so thin that it measures the server and hardly itself.

    python -m tests.bench.wire < plan.json     prints one line of JSON: answers, statuses, seconds, percentiles

Each connection sends its next request when the last is answered. `{n}` in a path or body becomes a number that no
other request of the run has, `{m}` that number modulo `modulus`. Plain sockets and epoll instead of `client.http`: the
same ones ask the bare route beside ours, and on a machine of few cores whatever the generator takes is missing to both.
"""

import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass
class Plan:
    """What to send, over how many connections, for how long."""

    host: str
    port: int
    token: str
    path: str
    body: str
    connections: int = 32
    seconds: float = 5.0
    key: str = ""
    """An idempotency key with `{n}`; none when empty."""
    first: int = 0
    modulus: int = 1
    requests_max: int = 10_000_000


@dataclass
class Tally:
    """What came back."""

    statuses: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    last_body: bytes = b""


class Connection:
    """One connection, with one request under way."""

    __slots__ = ("_buffer", "_sent", "_wanted", "socket")

    def __init__(self, plan: Plan) -> None:
        self.socket = socket.create_connection((plan.host, plan.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._wanted = 0
        self._sent = 0.0

    def send(self, request: bytes) -> None:
        """Send the next request; it is far smaller than what a socket takes in at once."""
        self._buffer, self._wanted = b"", 0
        self._sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self, tally: Tally) -> bool:
        """
        Take in what has arrived, and say whether the answer is complete.

        Raises:
            ConnectionError: The server hung up.
        """
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._buffer += data
        if not self._wanted:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            at = self._buffer.find(b"content-length: ") + len(b"content-length: ")
            self._wanted = end + 4 + int(self._buffer[at : self._buffer.find(b"\r", at)])
        if len(self._buffer) < self._wanted:
            return False
        tally.latencies.append(time.perf_counter() - self._sent)
        status = self._buffer[9:12].decode()
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        tally.last_body = self._buffer
        return True


class Requests:
    """A plan's requests, numbered."""

    def __init__(self, plan: Plan) -> None:
        self.number = plan.first
        self._modulus = plan.modulus
        self._has_fixed_body = "{n}" not in plan.body
        key = f"Idempotency-Key: {plan.key}\r\n" if plan.key else ""
        self._head = (
            f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}\r\n"
            f"Authorization: Bearer {plan.token}\r\nContent-Type: application/json\r\n{key}"
        )
        self._body = plan.body

    def next(self) -> bytes:
        """Return the next request."""
        number = str(self.number)
        head = self._head.replace("{n}", number).replace("{m}", str(self.number % self._modulus))
        body = self._body if self._has_fixed_body else self._body.replace("{n}", number)
        self.number += 1
        return f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


def run(plan: Plan) -> dict[str, Any]:
    """Send a plan's requests and return what came back."""
    tally, requests = Tally(), Requests(plan)
    connections = {
        connection.socket.fileno(): connection
        for connection in (Connection(plan) for _ in range(plan.connections))
    }
    started = time.perf_counter()
    stop_at = started + plan.seconds
    with select.epoll() as poll:
        for number, connection in connections.items():
            poll.register(number, select.EPOLLIN)
            connection.send(requests.next())
        while connections:
            for number, _ in poll.poll(plan.seconds + 60):
                connection = connections[number]
                if not connection.receive(tally):
                    continue
                if time.perf_counter() < stop_at and requests.number - plan.first < plan.requests_max:
                    connection.send(requests.next())
                else:
                    poll.unregister(number)
                    connections.pop(number).socket.close()
    seconds = time.perf_counter() - started
    ordered = sorted(tally.latencies) or [0.0]
    return {
        "answers": len(tally.latencies),
        "statuses": tally.statuses,
        "seconds": seconds,
        "per_second": len(tally.latencies) / seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
        "next": requests.number,
        "last_body": tally.last_body.partition(b"\r\n\r\n")[2][:300].decode(errors="replace"),
    }


if __name__ == "__main__":
    given = Plan(**orjson.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(orjson.dumps(run(given)) + b"\n")
