"""
A client of both APIs: sends commands in batches, retries what is safe to retry, and reads its own writes.

Every command carries an idempotency key, so a lost answer is asked for again with no second effect. The last position
that the client was answered with goes along with every query. Commands and documents are the messages of `schemas`:
`await client.do(PlaceOrder(…))`, `await client.document(Order, "/v1/orders/INV-1")`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx2
import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter
from uuid_utils import uuid7

from schemas.errors import ServiceError
from schemas.messages import Command as CommandMessage
from schemas.messages import View

COMMANDS_PER_REQUEST_MAX = 1_000
BYTES_PER_REQUEST_MAX = 4 * 1024 * 1024
RETRY_SECONDS_MAX = 300.0
REQUEST_TIMEOUT_SECONDS = 60.0
CONNECTIONS_MAX = 16
TRY_AGAIN = frozenset({429, 503, 504})
PAGE_ITEMS = 500

AnyView = TypeVar("AnyView", bound=View)
Token = str | Callable[[], Awaitable[str]]
"""A token, or what returns one that is good now."""


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


class _TryAgain(Exception):
    """An answer that says: later."""


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
    facts: Mapping[str, Any]

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


class Client:
    """A connection to a command API and a query API with one token."""

    def __init__(
        self, *, command_url: str, query_url: str, token: Token, retry_seconds_max: float = RETRY_SECONDS_MAX
    ) -> None:
        self._command_url, self._query_url = command_url.rstrip("/"), query_url.rstrip("/")
        self._retry_seconds_max = retry_seconds_max
        self._token = token
        self._http = httpx2.AsyncClient(
            timeout=REQUEST_TIMEOUT_SECONDS,
            limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
            trust_env=False,
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
        again = [index for index, result in enumerate(results) if result.status in TRY_AGAIN]
        if again:
            await asyncio.sleep(1)
            for index, result in zip(
                again, await self.send([commands[index] for index in again]), strict=True
            ):
                results[index] = result
        return results

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
    ) -> AsyncIterator[httpx2.Response]:
        """
        Keep one answer of the query API open for a block, whose parts may be so many seconds apart.

        Raises:
            httpx2.TransportError: It cannot be had, or was cut.
        """
        timeout = httpx2.Timeout(REQUEST_TIMEOUT_SECONDS, read=seconds)
        async with self._http.stream(
            "GET",
            f"{self._query_url}{path}",
            params=dict(parameters),
            headers={**headers, **await self._authorization()},
            timeout=timeout,
        ) as answer:
            yield answer

    async def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return a query's answer, at least as new as this client's own commands."""
        return orjson.loads((await self._query(path, parameters)).content)

    async def _query(self, path: str, parameters: Mapping[str, Any] | None) -> httpx2.Response:
        headers = {"Prefer": "wait=30"}
        if self.position:
            headers["Everfold-Position"] = self.position
        return await self._request("GET", f"{self._query_url}{path}", params=parameters, headers=headers)

    async def _authorization(self) -> dict[str, str]:
        token = self._token if isinstance(self._token, str) else await self._token()
        return {"Authorization": f"Bearer {token}"}

    async def _request(self, method: str, url: str, **arguments: Any) -> httpx2.Response:
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_delay(self._retry_seconds_max),
                wait=wait_exponential_jitter(initial=0.2, max=5),
                retry=retry_if_exception_type((_TryAgain, httpx2.TransportError)),
                reraise=True,
            ):
                with attempt:
                    given = _json_headers(arguments)
                    given["headers"] = {**given.get("headers", {}), **await self._authorization()}
                    answer = await self._http.request(method, url, **given)
                    behind = answer.status_code == 412 and method == "GET"
                    if answer.status_code in TRY_AGAIN or behind:
                        raise _TryAgain(f"{answer.status_code} {problem_of(answer)}")
        except (_TryAgain, httpx2.TransportError) as error:
            raise ServerAway(url, str(error) or type(error).__name__) from error
        if answer.status_code >= 400:
            raise RequestRefused(url, answer.status_code, problem_of(answer))
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
        return dict(arguments)
    return arguments | {"headers": {"Content-Type": "application/json", **arguments.get("headers", {})}}


def _result(item: Mapping[str, Any]) -> Result:
    problem = item.get("problem")
    if problem is None:
        return Result(item["status"], None, item)
    return Result(item["status"], str(problem["type"]).rsplit("/", 1)[-1], problem)


def problem_of(answer: httpx2.Response) -> str:
    """Return what a refusal says."""
    try:
        return str(orjson.loads(answer.content).get("detail", ""))
    except orjson.JSONDecodeError:
        return answer.text[:200]
