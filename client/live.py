"""
Live streams that go on by themselves: cut, they are opened again with their mark, so nothing is missed or told twice.

    async for message in follow(client, {"orders": Order}, status="confirmed"):
        …

The first messages are what is there now (`snapshot`, up to `snapshot-end`); then come changes. After a `reset`, forget
what was told of its views: they are told again. `Mirror` does all of that, and holds the documents.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from random import uniform
from typing import Any, Generic

import aiohttp
import orjson

from client.http import AWAY, TRY_AGAIN, AnyView, Client, RequestRefused, ServerAway, TryAgain, problem_of

SILENCE_SECONDS_MAX = 45.0
"""The server gives a sign of life every 15 s; a connection that has been silent for longer is dead."""
AGAIN_SECONDS_MIN, AGAIN_SECONDS_MAX = 0.1, 5.0
SNAPSHOT, SNAPSHOT_END, CHANGE, RESET = "snapshot", "snapshot-end", "change", "reset"


@dataclass(frozen=True, slots=True)
class LiveMessage(Generic[AnyView]):
    """One message of a live stream."""

    event: str
    """`snapshot`, `snapshot-end`, `change` or `reset`."""
    views: tuple[str, ...]
    """The view it is about; of an end or a reset, all those."""
    key: str = ""
    document: AnyView | None = None
    """None: there is none any more, or it does not match any more."""
    version: int | None = None
    position: str = ""
    mark: str | None = None
    """What a stream that is to go on after this message is opened with."""


async def follow(
    client: Client, views: Mapping[str, type[AnyView]], *, after: str | None = None, **filters: Any
) -> AsyncGenerator[LiveMessage[AnyView], None]:
    """
    Follow views for as long as the caller wants; `after` is the mark of a message that was taken before.

    Raises:
        RequestRefused: The server does not open such a stream: the token, a filter, the mark.
        ServerAway: It could not be opened again for as long as the client tries.
    """
    parameters = {"views": ",".join(views), **filters}
    loop = asyncio.get_running_loop()
    mark, pause, lost_at, is_told = after, AGAIN_SECONDS_MIN, loop.time(), False
    while True:
        problem = "the stream has ended"
        try:
            async with aclosing(_once(client, views, parameters, mark)) as messages:
                async for message in messages:
                    if message is None:
                        pause, lost_at = AGAIN_SECONDS_MIN, loop.time()
                        if is_told and mark is None:  # cut before its first mark: it begins anew
                            yield LiveMessage(RESET, tuple(views))
                        continue
                    lost_at, is_told = loop.time(), True
                    mark = message.mark or mark
                    if message.views:
                        yield message
        except (TryAgain, *AWAY) as error:
            problem = str(error) or type(error).__name__
        if loop.time() - lost_at > client.retry_seconds_max:
            raise ServerAway("/v1/live", problem)
        await asyncio.sleep(uniform(0, pause))  # so that not all come back at once
        pause = min(2 * pause, AGAIN_SECONDS_MAX)


async def _once(
    client: Client, views: Mapping[str, type[AnyView]], parameters: Mapping[str, Any], mark: str | None
) -> AsyncGenerator[LiveMessage[AnyView] | None, None]:
    """Open a stream once; None says that it is open."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": mark} if mark else {})}
    async with client.stream("/v1/live", parameters, headers, SILENCE_SECONDS_MAX) as answer:
        if answer.status != HTTPStatus.OK:
            problem = problem_of(await answer.read())
            if answer.status in TRY_AGAIN:
                raise TryAgain(f"{answer.status} {problem}")
            raise RequestRefused("/v1/live", answer.status, problem)
        yield None
        fields: dict[str, str] = {}
        async for line in _lines(answer):
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            elif "data" in fields or "id" in fields:
                yield _message(fields, views)
                fields = {}


async def _lines(answer: aiohttp.ClientResponse) -> AsyncGenerator[str, None]:
    """Give the lines of a stream, however long; only a line feed ends one: documents hold what else might."""
    rest = b""
    async for part in answer.content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.decode()


def _message(fields: Mapping[str, str], views: Mapping[str, type[AnyView]]) -> LiveMessage[AnyView]:
    mark = fields.get("id")
    if "data" not in fields:
        return LiveMessage(CHANGE, (), mark=mark)
    event, data = fields["event"], orjson.loads(fields["data"])
    if event in (RESET, SNAPSHOT_END):
        return LiveMessage(event, tuple(data["views"]), mark=mark)
    view, document = data["view"], data["document"]
    found = None if document is None else views[view].model_validate_json(orjson.dumps(document))
    return LiveMessage(event, (view,), data["key"], found, data["version"], data["position"], mark)


@dataclass(slots=True)
class Mirror(Generic[AnyView]):
    """The documents that a live stream has told of, as they are now."""

    documents: dict[tuple[str, str], AnyView] = field(default_factory=dict)
    """By view and key."""
    is_whole: bool = False
    """Whether all that was there has been told."""
    mark: str | None = None

    def take(self, message: LiveMessage[AnyView]) -> None:
        """Take a message on."""
        self.mark = message.mark or self.mark
        match message.event:
            case "reset":
                self.is_whole = False
                for place in [place for place in self.documents if place[0] in message.views]:
                    del self.documents[place]
            case "snapshot-end":
                self.is_whole = True
            case _ if message.document is None:
                self.documents.pop((message.views[0], message.key), None)
            case _:
                self.documents[message.views[0], message.key] = message.document
