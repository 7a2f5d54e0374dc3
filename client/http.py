"""
A client of both APIs: sends commands in batches, retries what is safe to retry, and reads its own writes.

Every command carries an idempotency key, so a lost answer is asked for again with no second effect. The last position
that the client was answered with goes along with every query. Commands and documents are the messages of `schemas`:
`await client.do(PlaceOrder(…))`, `await client.document(Order, "/v1/orders/INV-1")`. Who has no such messages names a
command by its address: `await client.post("/v1/orders/INV-1/place", {…}, key="…")`.

aiohttp below, because whoever sends many commands pays for each: with httpx2 a request costs four times the processor.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import aiohttp
import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)
from uuid_utils import uuid7

from schemas.errors import ServiceError
from schemas.messages import Command as CommandMessage
from schemas.messages import View

COMMANDS_PER_REQUEST_MAX = 1_000
BYTES_PER_REQUEST_MAX = 4 * 1024 * 1024
RETRY_SECONDS_MAX = 300.0
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.2, 5.0
ANSWER_SECONDS_MAX = 60.0
CONNECTIONS_MAX = 16
TRY_AGAIN = frozenset({429, 503, 504})
PAGE_ITEMS = 500
AWAY = (
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
    TimeoutError,
)
"""There is no answer, or none that is whole: nobody knows what has happened."""

AnyView = TypeVar("AnyView", bound=View)
Token = str | Callable[[], Awaitable[str]]
"""A token, or what returns one that is good now."""


@dataclass(eq=False)
class ServerAway(ServiceError):
    """The server did not give an answer within the time that retrying may take."""

    url: str
    problem: str
    attempts: int = 1


@dataclass(eq=False)
class RequestRefused(ServiceError):
    """The server refused the request as a whole."""

    status = HTTPStatus.BAD_REQUEST
    url: str
    http_status: int
    problem: str


@dataclass(eq=False)
class CommandRefused(ServiceError):
    """The server said no to a command: by a rule, or because it cannot be carried out as it stands."""

    status = HTTPStatus.CONFLICT
    problem: str
    """The problem's type, such as `insufficient-stock`."""
    answer: Mapping[str, Any]
    """The problem details."""


@dataclass(eq=False)
class NotThere(ServiceError):
    """There is no such document."""

    status = HTTPStatus.NOT_FOUND
    path: str


class TryAgain(Exception):
    """An answer that says: later."""

    def __init__(self, problem: str, seconds: float = 0.0) -> None:
        super().__init__(problem)
        self.seconds = seconds
        """How much later at least."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command as `POST /v1/commands` takes it."""

    name: str
    id: Mapping[str, str]
    data: Mapping[str, Any]
    key: str
    expected_version: int | None = None
    """Of the main stream; 0: it must not exist yet."""

    @classmethod
    def of(
        cls, message: CommandMessage, *, key: str | None = None, expected_version: int | None = None
    ) -> Self:
        """Return a domain's command, with a key of its own unless one is given."""
        data = message.model_dump(mode="json", exclude_unset=True, by_alias=True)
        ids = {name: data.pop(name) for name in message.id_fields}
        return cls(message.command_name, ids, data, key or str(uuid7()), expected_version)

    def encode(self) -> bytes:
        """Return the command as JSON."""
        facts: dict[str, Any] = {
            "command": self.name,
            "id": self.id,
            "data": self.data,
            "idempotency_key": self.key,
        }
        if self.expected_version is not None:
            facts["expected_version"] = self.expected_version
        return orjson.dumps(facts)


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one command: accepted, or the problem."""

    status: int
    problem: str | None
    """The problem's type, such as `insufficient-stock`."""
    facts: Mapping[str, Any]
    """What is known of an accepted command, or the problem details."""
    attempts: int = 1
    """How often it was asked for until there was this answer."""

    @property
    def accepted(self) -> bool:
        """Whether the command is durable."""
        return self.status == 200

    @property
    def version(self) -> int:
        """The main stream's version after an accepted command."""
        return int(self.facts["version"])

    @property
    def position(self) -> str:
        """Where an accepted command stands in the log."""
        return str(self.facts["position"])


@dataclass(frozen=True, slots=True)
class Document(Generic[AnyView]):
    """A document as a query answered with it."""

    view: AnyView
    etag: str
    position: str
    """What the answer reflects at least."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes
    attempts: int


class Client:
    """Connections to a command API and a query API with one token; it is made where an event loop runs."""

    def __init__(
        self,
        *,
        command_url: str,
        query_url: str,
        token: Token,
        retry_seconds_max: float = RETRY_SECONDS_MAX,
        pause_seconds_max: float = PAUSE_SECONDS_MAX,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """
        Make a client; what fails is tried again for as long as `retry_seconds_max`.

        Pauses between attempts grow up to `pause_seconds_max`, whatever longer one a server asks for. An attempt with
        no whole answer after `answer_seconds_max` has failed.
        """
        self._command_url, self._query_url = command_url.rstrip("/"), query_url.rstrip("/")
        self._retry_seconds_max = retry_seconds_max
        self._pause_seconds_max = pause_seconds_max
        self._growing = wait_exponential_jitter(
            multiplier=min(PAUSE_SECONDS_MIN, pause_seconds_max), max=pause_seconds_max
        )
        self._token = token
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections_max),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=answer_seconds_max),
        )
        self.position: str | None = None
        """The last position that this client was answered with."""

    @property
    def retry_seconds_max(self) -> float:
        """For how long at most what failed is tried again."""
        return self._retry_seconds_max

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.close()

    async def send(self, commands: Sequence[Command]) -> list[Result]:
        """
        Send commands in their order, in as many requests as it takes, and return one result each.

        Raises:
            ServerAway: No answer came, however often it was asked.
            RequestRefused: The token or the request as a whole was refused.
        """
        deadline = time.monotonic() + self._retry_seconds_max
        results = await self._send(commands)
        while again := [index for index, result in enumerate(results) if result.status in TRY_AGAIN]:
            if time.monotonic() > deadline:
                raise ServerAway(self._command_url, results[again[0]].problem or "")
            await asyncio.sleep(min(1.0, self._pause_seconds_max))
            answers = await self._send([commands[index] for index in again])
            for index, result in zip(again, answers, strict=True):
                results[index] = result
        return results

    async def post(self, path: str, data: Mapping[str, Any], *, key: str) -> Result:
        """
        Have the command at an address of its own carried out, and return what it came to, a refusal too.

        Raises:
            ServerAway: No answer came, however often it was asked: with the same key it can be asked again.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        answer = await self._answer(
            "POST", f"{self._command_url}{path}", content=orjson.dumps(data), headers=headers
        )
        self.position = answer.headers.get("Everfold-Position", self.position)
        if answer.status == HTTPStatus.OK:
            return Result(answer.status, None, orjson.loads(answer.content), answer.attempts)
        problem = problem_details(answer.content)
        return Result(answer.status, _problem_type(problem), problem, answer.attempts)

    async def do(
        self, message: CommandMessage, *, key: str | None = None, expected_version: int | None = None
    ) -> Result:
        """
        Have one command carried out, and return what it came to.

        Raises:
            CommandRefused: The server said no.
            ServerAway: No answer came, however often it was asked.
            RequestRefused: The token or the request as a whole was refused.
        """
        (result,) = await self.send([Command.of(message, key=key, expected_version=expected_version)])
        if not result.accepted:
            raise CommandRefused(result.problem or "", result.facts)
        return result

    async def document(self, view: type[AnyView], path: str, **parameters: Any) -> Document[AnyView]:
        """
        Return a document, at least as new as this client's own commands.

        Raises:
            NotThere: There is none.
            ServerAway: No answer came, however often it was asked.
            RequestRefused: The query was refused.
        """
        try:
            answer = await self._query(path, parameters)
        except RequestRefused as error:
            if error.http_status == HTTPStatus.NOT_FOUND:
                raise NotThere(path) from error
            raise
        found = view.model_validate_json(answer.content)
        return Document(found, answer.headers["ETag"], answer.headers["Everfold-Position"])

    async def items(self, view: type[AnyView], path: str, **parameters: Any) -> AsyncIterator[AnyView]:
        """Return the items of a list, page after page; errors are those of `get`."""
        asked = {"limit": PAGE_ITEMS, **parameters}
        while True:
            page = await self.get(path, asked)
            for item in page["items"]:
                yield view.model_validate_json(orjson.dumps(item))
            if page["next"] is None:
                return
            asked["cursor"] = page["next"]

    @asynccontextmanager
    async def stream(
        self, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str], seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Keep one answer of the query API open for a block, whose parts may be so many seconds apart.

        Raises one of `AWAY` where it cannot be had, or was cut.
        """
        async with self._http.get(
            f"{self._query_url}{path}",
            params=_pairs(parameters),
            headers={**headers, **await self._authorization()},
            timeout=aiohttp.ClientTimeout(connect=ANSWER_SECONDS_MAX, sock_read=seconds),
            allow_redirects=False,
        ) as answer:
            yield answer

    async def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return a query's answer, at least as new as this client's own commands."""
        return orjson.loads((await self._query(path, parameters)).content)

    async def _query(self, path: str, parameters: Mapping[str, Any] | None) -> _Answer:
        headers = {"Prefer": "wait=30"}
        if self.position:
            headers["Everfold-Position"] = self.position
        url = f"{self._query_url}{path}"
        return self._unless_refused(
            url, await self._answer("GET", url, parameters=parameters, headers=headers)
        )

    async def _send(self, commands: Sequence[Command]) -> list[Result]:
        url, results = f"{self._command_url}/v1/commands", list[Result]()
        for body in bodies(commands):
            headers = {"Content-Type": "application/json"}
            answer = self._unless_refused(url, await self._answer("POST", url, content=body, headers=headers))
            self.position = answer.headers.get("Everfold-Position", self.position)
            results.extend(_result(item, answer.attempts) for item in orjson.loads(answer.content)["results"])
        return results

    @staticmethod
    def _unless_refused(url: str, answer: _Answer) -> _Answer:
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise RequestRefused(url, answer.status, problem_of(answer.content))
        return answer

    async def _authorization(self) -> dict[str, str]:
        token = self._token if isinstance(self._token, str) else await self._token()
        return {"Authorization": f"Bearer {token}"}

    async def _answer(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> _Answer:
        """Return the first answer that is one, whatever it says."""
        attempts = 0

        async def ask() -> _Answer:
            nonlocal attempts
            attempts += 1
            async with self._http.request(
                method,
                url,
                data=content,
                params=_pairs(parameters or {}),
                headers={**headers, **await self._authorization()},
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
            is_behind = answer.status == HTTPStatus.PRECONDITION_FAILED and method == "GET"
            if answer.status in TRY_AGAIN or is_behind:
                raise TryAgain(f"{answer.status} {problem_of(body)}", _seconds_of(answer.headers))
            return _Answer(answer.status, answer.headers, body, attempts)

        retrying = AsyncRetrying(
            stop=stop_after_delay(self._retry_seconds_max),
            wait=self._pause,
            retry=retry_if_exception_type((TryAgain, *AWAY)),
            reraise=True,
        )
        try:
            return await retrying(ask)
        except (TryAgain, *AWAY) as error:
            raise ServerAway(url, str(error) or type(error).__name__, attempts) from error

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.seconds if isinstance(error, TryAgain) else 0.0
        return min(max(self._growing(state), asked_for), self._pause_seconds_max)


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


def _pairs(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a query's parameters as its address has them: many values of a name one by one, and none for None."""
    return [
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, given in parameters.items()
        for value in (given if isinstance(given, list | tuple | set | frozenset) else (given,))
        if value is not None
    ]


def _result(item: Mapping[str, Any], attempts: int) -> Result:
    problem = item.get("problem")
    if problem is None:
        return Result(item["status"], None, item, attempts)
    return Result(item["status"], _problem_type(problem), problem, attempts)


def _problem_type(problem: Mapping[str, Any]) -> str:
    return str(problem.get("type", "about:blank")).rsplit("/", 1)[-1]


def _seconds_of(headers: Mapping[str, str]) -> float:
    """Return how long a server asks not to be asked again."""
    with suppress(ValueError):  # a date, by something between us and the server
        return float(headers.get("Retry-After", "0"))
    return 0.0


def problem_details(content: bytes) -> dict[str, Any]:
    """Return a refusal's problem; what stands between us and the server may have said it in its own way."""
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(content)
        if isinstance(found, dict):
            return found
    return {"detail": content[:200].decode(errors="replace")}


def problem_of(content: bytes) -> str:
    """Return what a refusal says."""
    return str(problem_details(content).get("detail", ""))
