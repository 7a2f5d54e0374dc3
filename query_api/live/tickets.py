"""
Tickets: what opens a live stream for a browser, which can send no headers with it. Single use, for half a minute.

They stand in the primary of the read tables, by their digests, so any process can take a ticket and none can twice.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import orjson

from infra.auth import Principal
from infra.sql import load_sql
from query_api.statements import positional
from schemas.errors import RateLimited, Unauthenticated

TICKET_SECONDS = 30
TICKETS_MAX = 100
"""Of one subject, that nobody has taken yet."""
TICKET_CHARACTERS_MAX = 128


@dataclass(eq=False)
class TooManyTickets(RateLimited, slug=RateLimited.slug):
    """So many tickets wait already to be taken."""

    tickets_max: int


class Admitted(NamedTuple):
    """Who opens a stream, and until when the token is good that lets them (seconds since 1970)."""

    principal: Principal
    expires: float


class Primary(Protocol):
    """A server to ask: `query_api.replicas.Server`."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        """Run one statement."""
        ...


class Tickets:
    """Makes and takes tickets."""

    def __init__(self, primary: Primary, namespace: str) -> None:
        self._primary = primary
        self._make = positional(load_sql("query_api", "sql/make_ticket.sql", namespace=namespace))
        self._take = positional(load_sql("query_api", "sql/take_ticket.sql", namespace=namespace))

    async def make(self, admitted: Admitted) -> str:
        """
        Return a ticket for somebody.

        Raises:
            RateLimited: Too many of theirs wait to be taken.
            StoreUnavailable: The primary does not answer.
        """
        ticket = secrets.token_urlsafe(32)
        principal = admitted.principal
        facts = [principal.tenant, principal.subject, list(principal.roles), admitted.expires]
        holder = sha256(orjson.dumps([principal.tenant, principal.subject])).digest()
        values = {
            "digest": _digest(ticket),
            "holder": holder,
            "principal": orjson.dumps(facts).decode(),
            "seconds": float(TICKET_SECONDS),
            "tickets_max": TICKETS_MAX,
        }
        (row,) = await self._primary.fetch(self._make.sql, self._make.arguments(values))
        if not row["made"]:
            raise TooManyTickets(TICKETS_MAX)
        return ticket

    async def take(self, ticket: str) -> Admitted:
        """
        Return whom a ticket speaks for, once.

        Raises:
            Unauthenticated: There is no such ticket, or not any more.
            StoreUnavailable: The primary does not answer.
        """
        rows: Sequence[Any] = ()
        if len(ticket) <= TICKET_CHARACTERS_MAX:
            rows = await self._primary.fetch(
                self._take.sql, self._take.arguments({"digest": _digest(ticket)})
            )
        if not rows:
            raise Unauthenticated("the ticket is not known, has been taken, or has expired")
        tenant, subject, roles, expires = orjson.loads(rows[0]["principal"])
        return Admitted(Principal(tenant, subject, tuple(roles)), expires)


def _digest(ticket: str) -> bytes:
    return sha256(ticket.encode()).digest()
