"""
A story on the log, a projector and the query API over it, all in this process; and a second opinion on the answers.

The second opinion folds the log as it was written, in memory, and knows nothing of tables, SQL or Redis.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uuid_utils

from event_store.log import Append, Check, Expect, NewEvent
from infra.auth import issue_development_token
from infra.documents import DocumentWriter
from infra.redis import RedisCache
from infra.settings import Settings, load_settings
from infra.testing.log import Recorded
from projectors.decoding import Decoder
from projectors.documents import DocumentQueue
from projectors.projection import Key, Projection, Stream
from projectors.read_side import ReadSide, open_read_side
from query_api.app import QueryApi, query_api
from schemas.envelope import BEGINNING, Metadata
from schemas.position import position_of
from tests.integration.projectors.accounts import running_projector

TENANT, OTHER_TENANT = "demo", "other"
ODD_LOT = 'a/b c?d#e%2F"\\~'
"""What a label may say and a path may not, as it stands."""
PAGE_EVENTS_MAX = 100_000
APPENDS_MAX = 500

Documents = Mapping[Key, bytes]


@dataclass
class Told:
    """What a test asks."""

    side: ReadSide
    api: QueryApi
    client: httpx2.AsyncClient
    token: str = ""
    """The position of the last event."""

    async def tell(self, events: Sequence[Recorded], *, tenant: str = TENANT) -> str:
        """Append a story's events, each by itself and in order; return where they end."""
        partition = await self.side.log.partition_of(tenant)
        for start in range(0, len(events), APPENDS_MAX):
            outcomes = await self.side.log.append_batch(
                partition, [_append(tenant, recorded) for recorded in events[start : start + APPENDS_MAX]]
            )
        last = outcomes[-1]
        self.token = position_of(partition, last.position, last.commit.hash).token(tenant)
        return self.token

    async def get(self, path: str, **parameters: Any) -> httpx2.Response:
        """Ask for something that reflects all that was told."""
        headers = {"everfold-position": self.token, "prefer": "wait=20"}
        return await self.client.get(path, params=parameters, headers=headers)

    async def walk(self, path: str, *, limit: int = 7, **parameters: Any) -> list[dict[str, Any]]:
        """Return all items of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            response = await self.get(path, limit=limit, **parameters, **cursor)
            assert response.status_code == 200, response.text
            page = response.json()
            found += page["items"]
            assert len(page["items"]) <= limit
            if page["next"] is None:
                return found
            cursor = {"cursor": page["next"]}

    async def folded(self, projection: type[Projection[Any]], table: str = "rows") -> Documents:
        """Return a table's documents by key, as a fold of the log in memory has them."""
        decoder = Decoder(self.side.registry, [projection()])
        partition = await self.side.log.partition_of(TENANT)
        page = await self.side.log.read_page(partition, BEGINNING, events_max=PAGE_EVENTS_MAX)
        rows: dict[tuple[str, Key], Any] = {}
        for decoded in decoder.decode(page).events:
            if decoded.stream.tenant == TENANT:
                for event in decoded.events:
                    projection().fold(rows, event, Stream(*decoded.stream))
        return {key: row.encode() for (name, key), row in rows.items() if name == table and row is not None}


def _append(tenant: str, recorded: Recorded) -> Append:
    event, stream = recorded.event, recorded.stream
    metadata = Metadata(
        actor="ann",
        roles=("admin",),
        command="story.tell",
        occurred_at=recorded.moment.occurred_at,
        correlation_id="story",
    )
    new = NewEvent(stream, str(uuid_utils.uuid7()), event.type, event.schema_version, event.encode())
    return Append(tenant, stream, [Check(stream, Expect.ANY)], [new], metadata.encode())


def settings_of(store_url: str, redis_url: str, data_dir: Path) -> Settings:
    """Return the settings of a read side of supply."""
    return load_settings(
        store_url=store_url, read_url=store_url, redis_url=redis_url, data_dir=data_dir, domains="supply"
    )


@asynccontextmanager
async def telling(settings: Settings) -> AsyncIterator[Told]:
    """Keep a projector and the query API over an empty log for a block."""
    assert settings.redis_url is not None
    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(open_read_side(settings, name="test"))
        redis = await stack.enter_async_context(RedisCache(settings.redis_url.get_secret_value()))
        documents = await stack.enter_async_context(DocumentQueue(DocumentWriter(redis, settings.namespace)))
        await stack.enter_async_context(running_projector(side, applied=documents.put))
        api = await stack.enter_async_context(query_api(settings, log=side.log))
        token = issue_development_token(settings, tenant=TENANT, roles=["viewer"])
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=api.edge),
            base_url="http://everfold.test",
            headers={"authorization": f"Bearer {token}"},
            timeout=60,
        )
        yield Told(side, api, await stack.enter_async_context(client))
