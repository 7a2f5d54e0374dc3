"""
The yardstick of the command route: a FastAPI POST with the same body and the same server settings, and no work.

    python -m tests.bench.bare PORT
"""

import sys
from typing import Any

import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

from infra.edge import Edge
from infra.embedded.priority import PROMPT
from infra.serving import server_of

app = FastAPI()


class Body(BaseModel):
    """What a deposit or a receipt holds."""

    cents: int | None = None
    quantity: int | None = None
    lot: str | None = None
    expires_on: str | None = None


@app.post("/{path:path}")
async def take(path: str, body: Body) -> dict[str, Any]:
    """Answer with a little JSON."""
    return {"stream": "accounts/A", "version": 1, "position": "p1.0.1.00000000.000000", "events": []}


def main() -> None:
    """Serve until told to end, without the edge that our own APIs have."""
    PROMPT.take()
    server = server_of(Edge(app), host="127.0.0.1", port=int(sys.argv[1]))
    server.config.app = app
    uvloop.run(server.serve())


if __name__ == "__main__":
    main()
