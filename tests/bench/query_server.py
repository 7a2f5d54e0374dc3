"""
A server to measure: the query API on the toy domain, or the yardstick, a FastAPI route that returns fixed bytes.

    python -m tests.bench.query_server ours|fixed PORT

Both run under the same server settings. `ours` takes its services from the environment, as every role does.
"""

import sys

import uvloop
from fastapi import FastAPI, Response

import query_api.app
from infra.edge import Edge
from infra.serving import serve, server_of
from infra.settings import load_settings
from tests.toy import DOMAIN

DOCUMENT = b'{"account_id":"A-0000","stream":"accounts/A-0000","version":2,"balance_cents":100}'

fixed = FastAPI()


@fixed.get("/v1/accounts/{account_id}")
async def fixed_bytes(account_id: str) -> Response:
    """Answer the same bytes whatever is asked."""
    return Response(DOCUMENT, media_type="application/json")


async def serve_ours(port: int) -> None:
    """Serve the query API."""
    setattr(query_api.app, "load_domains", lambda _names: (DOMAIN,))  # noqa: B010 -- the toy has no entry point
    async with query_api.app.query_api(load_settings()) as api:
        await serve(api.edge, host="127.0.0.1", port=port)


def main() -> None:
    """Serve until told to end."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "ours":
        uvloop.run(serve_ours(port))
        return
    server = server_of(Edge(fixed), host="127.0.0.1", port=port)
    server.config.app = fixed  # without the edge that our own APIs have
    uvloop.run(server.serve())


if __name__ == "__main__":
    main()
