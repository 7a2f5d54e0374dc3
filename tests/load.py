"""
Clients that never give up: each sends its next command when the last is answered, and a ledger says what became of all.

They are `client.http`, as any program's: what is not answered it repeats with its key. The ledger says of each command
what a client may conclude: `acknowledged` with its events, `rejected` with the problem, or `unknown`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from client.http import Client, ServerAway

ANSWER_SECONDS_MAX = 30.0
PAUSE_SECONDS_MAX = 0.05
"""Between attempts: a role that comes back meets its clients at once."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command: its path under the command API, its body, and the key it is repeated with."""

    path: str
    body: Mapping[str, Any]
    key: str


@dataclass(slots=True)
class Ledger:
    """What the clients know."""

    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    """Event ids by key."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Problem type by key."""
    unknown: dict[str, str] = field(default_factory=dict)
    """What was said last, by key."""
    attempts: int = 0
    latencies_seconds: list[float] = field(default_factory=list)
    """Of answers that came at the first attempt."""

    async def carry_out(self, client: Client, request: Request) -> None:
        """Have a command carried out, and note what is known of it then."""
        sent = time.monotonic()
        try:
            result = await client.post(request.path, request.body, key=request.key)
        except ServerAway as away:
            self.attempts += away.attempts
            self.unknown[request.key] = away.problem
            return
        self.attempts += result.attempts
        if result.accepted:
            if result.attempts == 1:
                self.latencies_seconds.append(time.monotonic() - sent)
            self.acknowledged[request.key] = [event["id"] for event in result.facts["events"]]
        elif result.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.rejected[request.key] = result.problem or ""
        else:
            self.unknown[request.key] = f"{result.status} {result.problem}"


def load_client(url: str, token: str, *, clients: int, give_up_after_seconds: float) -> Client:
    """Return what so many clients send commands through, each over a connection of its own."""
    return Client(
        command_url=url,
        query_url=url,
        token=token,
        retry_seconds_max=give_up_after_seconds,
        pause_seconds_max=PAUSE_SECONDS_MAX,
        answer_seconds_max=ANSWER_SECONDS_MAX,
        connections_max=clients,
    )


async def run_clients(
    *,
    url: str,
    token: str,
    clients: int,
    next_request: Callable[[int, int], Request | None],
    give_up_after_seconds: float = 60.0,
    pause_seconds: float = 0.0,
) -> Ledger:
    """
    Let so many clients send commands, each its next one after the answer to the last and a pause, until there are none.

    `next_request(client, number)` gives a client's next command. A command that was not answered, or with 503 or
    504, is sent again with the same key until it is, for so long at most: then its outcome is unknown.
    """
    ledger = Ledger()

    async def run(index: int, client: Client) -> None:
        number = 0
        while (request := next_request(index, number)) is not None:
            number += 1
            await ledger.carry_out(client, request)
            await asyncio.sleep(pause_seconds)

    async with load_client(
        url, token, clients=clients, give_up_after_seconds=give_up_after_seconds
    ) as client:
        await asyncio.gather(*(run(index, client) for index in range(clients)))
    return ledger
