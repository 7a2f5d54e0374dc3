"""
Reads from the tables of live generations, by whichever server is new enough.

A statement says in its own snapshot which generation is live and how far it is. Where that is not the generation
whose tables were read, the read is thrown away and run again with the right one, so no answer mixes two builds.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from query_api.answers import Asked
from query_api.applied import ReadModelMissing, ReadSide
from query_api.replicas import GenerationGone, Row, Servers
from query_api.statements import Head, Statement, parse_heads
from schemas.errors import StoreUnavailable

ATTEMPTS_MAX = 4

Generations = tuple[tuple[str, int], ...]
Make = Callable[[Generations], Statement]


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
        """
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
            generations = await self.side.generations(projections)
            needed = {
                name: (generation, max(at_least, self.side.floor(name, generation, asked.partition)))
                for name, generation in generations
            }
            statement = make(generations)
            judge = partial(_reaches, needed)
            try:
                rows = await self._servers.fetch(
                    statement.sql, statement.arguments(bound), is_new_enough=judge
                )
            except GenerationGone:
                await self.side.refresh()
                continue
            heads = parse_heads(rows[0]["head"])
            if missing := set(projections) - set(heads):
                raise ReadModelMissing(missing.pop())
            if all(heads[name].generation == generation for name, generation in generations):
                return rows, heads
            await self.side.refresh()
        raise StoreUnavailable


def _reaches(needed: Mapping[str, tuple[int, int]], rows: Sequence[Row]) -> bool:
    heads = parse_heads(rows[0]["head"])
    return all(
        name in heads and heads[name].generation == generation and heads[name].position >= position
        for name, (generation, position) in needed.items()
    )
