"""
A client of both APIs: sends commands in batches, retries what is safe to retry, and reads its own writes.

Every command carries an idempotency key, so a lost answer is asked for again with no second effect. The highest
position that a command answered with goes along with every query.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpx2
import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from schemas.errors import ServiceError

COMMANDS_PER_REQUEST_MAX = 1_000
BYTES_PER_REQUEST_MAX = 4 * 1024 * 1024
RETRY_SECONDS_MAX = 300.0
REQUEST_TIMEOUT_SECONDS = 60.0
CONNECTIONS_MAX = 16
_TRY_AGAIN = {429, 503, 504}


@dataclass(eq=False)
class ServerAway(ServiceError):
    """The server did not give an answer within the time that retrying may take."""

    url: str
    problem: str


@dataclass(eq=False)
class RequestRefused(ServiceError):
    """The server refused the request as a whole."""

    status = HTTPStatus.BAD_REQUEST
    url: str
    http_status: int
    problem: str


class _TryAgain(Exception):
    """An answer that says: later."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command as `POST /v1/commands` takes it."""

    name: str
    id: Mapping[str, str]
    data: Mapping[str, Any]
    key: str

    def encode(self) -> bytes:
        """Return the command as JSON."""
        return orjson.dumps(
            {"command": self.name, "id": self.id, "data": self.data, "idempotency_key": self.key}
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one command: accepted, or the problem."""

    status: int
    problem: str | None
    facts: Mapping[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the command is durable."""
        return self.status == 200


class Client:
    """A connection to a command API and a query API with one token."""

    def __init__(
        self, *, command_url: str, query_url: str, token: str, retry_seconds_max: float = RETRY_SECONDS_MAX
    ) -> None:
        self._command_url, self._query_url = command_url.rstrip("/"), query_url.rstrip("/")
        self._retry_seconds_max = retry_seconds_max
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            timeout=REQUEST_TIMEOUT_SECONDS,
            limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
            trust_env=False,
        )
        self.position: str | None = None
        """The highest position that a command of this client was answered with."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def send(self, commands: Sequence[Command]) -> list[Result]:
        """
        Send commands in their order, in as many requests as it takes, and return one result each.

        Raises:
            ServerAway: No answer came, however often it was asked.
            RequestRefused: The token or the request as a whole was refused.
        """
        results: list[Result] = []
        for body in bodies(commands):
            answer = await self._request("POST", f"{self._command_url}/v1/commands", content=body)
            self.position = answer.headers.get("Everfold-Position", self.position)
            results.extend(_result(item) for item in orjson.loads(answer.content)["results"])
        again = [index for index, result in enumerate(results) if result.status in _TRY_AGAIN]
        if again:
            await asyncio.sleep(1)
            for index, result in zip(
                again, await self.send([commands[index] for index in again]), strict=True
            ):
                results[index] = result
        return results

    async def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return a query's answer, at least as new as this client's own commands."""
        headers = {"Prefer": "wait=30"}
        if self.position:
            headers["Everfold-Position"] = self.position
        answer = await self._request("GET", f"{self._query_url}{path}", params=parameters, headers=headers)
        return orjson.loads(answer.content)

    async def _request(self, method: str, url: str, **arguments: Any) -> httpx2.Response:
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_delay(self._retry_seconds_max),
                wait=wait_exponential_jitter(initial=0.2, max=5),
                retry=retry_if_exception_type((_TryAgain, httpx2.TransportError)),
                reraise=True,
            ):
                with attempt:
                    answer = await self._http.request(method, url, **_json_headers(arguments))
                    behind = answer.status_code == 412 and method == "GET"
                    if answer.status_code in _TRY_AGAIN or behind:
                        raise _TryAgain(f"{answer.status_code} {_problem_of(answer)}")
        except (_TryAgain, httpx2.TransportError) as error:
            raise ServerAway(url, str(error) or type(error).__name__) from error
        if answer.status_code >= 400:
            raise RequestRefused(url, answer.status_code, _problem_of(answer))
        return answer


def bodies(commands: Sequence[Command]) -> list[bytes]:
    """Return the commands as request bodies, each within the bounds of one request."""
    found: list[bytes] = []
    waiting: list[bytes] = []
    size = 0
    for command in commands:
        encoded = command.encode()
        if waiting and (
            len(waiting) == COMMANDS_PER_REQUEST_MAX or size + len(encoded) > BYTES_PER_REQUEST_MAX
        ):
            found.append(b'{"commands":[' + b",".join(waiting) + b"]}")
            waiting, size = [], 0
        waiting.append(encoded)
        size += len(encoded) + 1
    if waiting:
        found.append(b'{"commands":[' + b",".join(waiting) + b"]}")
    return found


def _json_headers(arguments: dict[str, Any]) -> dict[str, Any]:
    if "content" not in arguments:
        return arguments
    return arguments | {"headers": {"Content-Type": "application/json", **arguments.get("headers", {})}}


def _result(item: Mapping[str, Any]) -> Result:
    problem = item.get("problem")
    if problem is None:
        return Result(item["status"], None, item)
    return Result(item["status"], str(problem["type"]).rsplit("/", 1)[-1], problem)


def _problem_of(answer: httpx2.Response) -> str:
    try:
        return str(orjson.loads(answer.content).get("detail", ""))
    except orjson.JSONDecodeError:
        return answer.text[:200]
