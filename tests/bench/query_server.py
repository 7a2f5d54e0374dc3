"""
A server to measure: the query API on the toy domain, or the yardsticks, FastAPI routes that do one thing each.

    python -m tests.bench.query_server ours|bare PORT

All run under the same server settings, and take their services from the environment, as every role does.
"""

import sys

import asyncpg
import redis.asyncio
import uvloop
from fastapi import FastAPI, Response

import query_api.app
from infra.edge import Edge
from infra.serving import serve, server_of
from infra.settings import load_settings
from tests.toy import DOMAIN

DOCUMENT = b'{"account_id":"A-0000","stream":"accounts/A-0000","version":2,"balance_cents":100}'
PAGE_ITEMS = 50
PAGE = b'{"items":[' + b",".join([DOCUMENT] * PAGE_ITEMS) + b'],"next":null}'
CANARY = "bench:document"
POOL_CONNECTIONS = 8
QUERY = """
    SELECT doc FROM everfold_account_balances_1.rows WHERE tenant = 'acme' AND balance_cents < $1
    ORDER BY account_id LIMIT $2
"""

bare = FastAPI()


@bare.get("/v1/accounts/{account_id}")
async def fixed_bytes(account_id: str) -> Response:
    """Answer the same bytes whatever is asked."""
    return Response(DOCUMENT, media_type="application/json")


@bare.get("/v1/accounts")
async def fixed_page() -> Response:
    """Answer the same page whatever is asked."""
    return Response(PAGE, media_type="application/json")


@bare.get("/redis/{account_id}")
async def single_get(account_id: str) -> Response:
    """Answer what one GET from Redis brings."""
    return Response(await bare.state.redis.get(CANARY), media_type="application/json")


@bare.get("/query")
async def single_query(below_cents: int, limit: int = PAGE_ITEMS) -> Response:
    """Answer what one query brings."""
    async with bare.state.pool.acquire() as connection:
        rows = await connection.fetch(QUERY, below_cents, limit + 1)
    items = b",".join([row["doc"] for row in rows[:limit]])
    return Response(b'{"items":[' + items + b'],"next":null}', media_type="application/json")


async def serve_ours(port: int) -> None:
    """Serve the query API."""
    setattr(query_api.app, "load_domains", lambda _names: (DOMAIN,))  # noqa: B010 -- the toy has no entry point
    async with query_api.app.query_api(load_settings()) as api:
        await serve(api.edge, host="127.0.0.1", port=port)


async def serve_bare(port: int) -> None:
    """Serve the yardsticks, without the edge that our own APIs have."""
    settings = load_settings()
    assert settings.redis_url is not None
    bare.state.redis = redis.asyncio.Redis.from_url(settings.redis_url.get_secret_value())
    await bare.state.redis.set(CANARY, DOCUMENT)
    bare.state.pool = await asyncpg.create_pool(
        settings.read_url_or_store, min_size=POOL_CONNECTIONS, max_size=POOL_CONNECTIONS
    )
    server = server_of(Edge(bare), host="127.0.0.1", port=port)
    server.config.app = bare
    await server.serve()


def main() -> None:
    """Serve until told to end."""
    kind, port = sys.argv[1], int(sys.argv[2])
    uvloop.run(serve_ours(port) if kind == "ours" else serve_bare(port))


if __name__ == "__main__":
    main()
