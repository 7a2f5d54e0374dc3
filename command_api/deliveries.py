"""What operators see of messages to the outside world, and do about those that were given up."""

from collections.abc import Sequence
from functools import partial
from getpass import getuser
from socket import gethostname
from typing import Any

import asyncpg
import orjson

from infra.sql import load_sql
from schemas.errors import NotFound
from schemas.messages import format_instant

UNDELIVERED = ("waiting", "dead", "unrouted")
STATES = (*UNDELIVERED, "delivered")
LIST_MAX = 1_000
INSTANTS = ("created_at", "try_at", "ended_at")


class Deliveries:
    """One tenant's messages."""

    def __init__(self, pool: "asyncpg.Pool[Any]", namespace: str, tenant: str) -> None:
        self._pool, self._tenant = pool, tenant
        self._sql = partial(load_sql, "command_api", namespace=namespace)

    async def list(
        self, states: Sequence[str] = UNDELIVERED, *, channel: str | None = None, limit: int = LIST_MAX
    ) -> Sequence[dict[str, Any]]:
        """Return messages in some states, newest first."""
        rows = await self._pool.fetch(
            self._sql("sql/list_messages.sql"), self._tenant, list(states), channel, limit
        )
        return [_document(row) for row in rows]

    async def show(self, message: str) -> dict[str, Any]:
        """
        Return a message with what is sent.

        Raises:
            NotFound: The tenant has none of that id.
        """
        row = await self._pool.fetchrow(self._sql("sql/show_message.sql"), self._tenant, message)
        if row is None:
            raise NotFound(f"message {message}")
        return _document(row) | {"body": orjson.loads(row["body"])}

    async def retry(
        self, messages: Sequence[str] | None, *, channel: str | None = None, reason: str | None = None
    ) -> Sequence[str]:
        """
        Have messages that were given up tried again; return their ids.

        Raises:
            NotFound: One that is named was not given up.
        """
        rows = await self._pool.fetch(
            self._sql("sql/retry_messages.sql"), self._tenant, messages, channel, _actor(), reason
        )
        return _all_of(messages, [row["id"] for row in rows])

    async def drop(self, messages: Sequence[str], reason: str) -> Sequence[str]:
        """
        Take away messages that were given up; return their ids.

        Raises:
            NotFound: One that is named was not given up.
        """
        rows = await self._pool.fetch(
            self._sql("sql/drop_messages.sql"), self._tenant, list(messages), _actor(), reason
        )
        return _all_of(messages, [row["id"] for row in rows])


def _all_of(wanted: Sequence[str] | None, found: Sequence[str]) -> Sequence[str]:
    if missing := sorted(set(wanted or ()) - set(found)):
        raise NotFound(f"given-up message {missing[0]}")
    return found


def _actor() -> str:
    return f"{getuser()}@{gethostname()}"


def _document(row: Any) -> dict[str, Any]:
    document = {name: value for name, value in row.items() if name != "body"}
    for name in INSTANTS:
        document[name] = None if row[name] is None else format_instant(row[name])
    if row["state"] != "waiting":
        document["try_at"] = None
    return document
