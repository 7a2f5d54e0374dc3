"""
Reads from the tables of live generations, by whichever server is new enough.

A statement says in its own snapshot which generation is live and how far it is. Where that is not the generation
whose tables were read, the read is thrown away and run again with the right one, so no answer mixes two builds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from query_api.answers import Asked
from query_api.applied import ReadModelMissing, ReadSide
from query_api.replicas import GenerationGone, Need, Reached, Row, Servers
from query_api.statements import Head, Statement, parse_heads
from schemas.errors import StoreUnavailable, Unavailable

ATTEMPTS_MAX = 4
NOT_LIVE = -1

Generations = tuple[tuple[str, int], ...]
Make = Callable[[Generations], Statement]


@dataclass(eq=False)
class TenantMoved(Unavailable):
    """The tenant's rows are as of another partition than they were asked for in; ask again where it lives now."""

    tenant: str = ""


class HeadsNeeded(Need):
    """How far the live generations must be on the server that is read from, as it says itself."""

    def reached(self, rows: Sequence[Row]) -> Reached:
        """Return how far the server was that answered; `NOT_LIVE` where another generation is live there."""
        heads = parse_heads(rows[0]["head"])
        return {
            place: head.position if head is not None and head.generation == place[1] else NOT_LIVE
            for place in self.positions
            for head in (heads.get(place[0]),)
        }


class Tables:
    """The read tables, wherever they are."""

    def __init__(self, servers: Servers, side: ReadSide, namespace: str) -> None:
        self.side = side
        self.namespace = namespace
        self._servers = servers

    async def read(
        self,
        projections: Sequence[str],
        make: Make,
        values: Mapping[str, Any],
        asked: Asked,
        at_least: int,
        *,
        table_name: str | None = None,
        key: str | None = None,
    ) -> tuple[Sequence[Row], dict[str, Head]]:
        """
        Run a statement made for the live generations; return its rows and what they rest on.

        Raises:
            StoreUnavailable: No server can answer now.
            ReadModelMissing: A projection has never been built.
            ReadModelVoid: One rests on events that the log has lost.
            TenantMoved: A projection has followed the tenant to another partition than was asked for.
        """
        at_least = max(at_least, asked.arrived)
        self.side.watch(asked.partition)
        bound = {
            "tenant": asked.tenant,
            "partition": asked.partition,
            "projections": list(projections),
            "table_name": table_name,
            "key": key,
            **values,
        }
        for _ in range(ATTEMPTS_MAX):
            generations = await self.side.generations(projections, asked.partition)
            need = HeadsNeeded(
                {
                    (name, generation, asked.partition): max(
                        at_least, self.side.floor(name, generation, asked.partition)
                    )
                    for name, generation in generations
                }
            )
            statement = make(generations)
            try:
                rows = await self._servers.fetch(statement.sql, statement.arguments(bound), need)
            except GenerationGone:
                await self.side.refresh()
                continue
            heads = parse_heads(rows[0]["head"])
            if missing := set(projections) - set(heads):
                raise ReadModelMissing(missing.pop())
            if all(heads[name].generation == generation for name, generation in generations):
                _check_place(asked, heads)
                return rows, heads
            await self.side.refresh()
        raise StoreUnavailable


def _check_place(asked: Asked, heads: Mapping[str, Head]) -> None:
    """See that positions in the partition that was asked for say what the rows reflect; the tables know best."""
    for head in heads.values():
        if head.followed_to not in (-1, asked.partition):
            raise TenantMoved(asked.tenant)
        if head.position < asked.arrived:
            raise StoreUnavailable
