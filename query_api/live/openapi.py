"""
Live streams in the query API's OpenAPI document.
"""

from collections.abc import Mapping

from infra.openapi import Document
from query_api.live.subscription import filter_names
from query_api.live.tickets import TICKET_SECONDS
from query_api.query import ListQuery

_EXAMPLE = (
    'event: snapshot\ndata: {"view":"orders","key":"INV-1","version":2,"position":"p1.3.2a.9f31c2d4.0a1b2c","op":"put",'
    '"document":{"order_id":"INV-1"}}\n\nevent: snapshot-end\nid: b3Bh…\ndata: {"views":["orders"]}\n\n'
)
_ABOUT = (
    "First the documents that match (`event: snapshot`), then `snapshot-end`, then changes (`event: change`): the "
    "latest document, or `op: delete` where there is none any more or it matches no more. `event: reset` says that the "
    "views it names are told again from their snapshot. A sign of life comes every 15 s. Any role of the tenant may "
    "ask."
)


def live_paths(views: Mapping[str, type[ListQuery]], responses: Document) -> Document:
    """Return the paths of live streams of some views."""
    parameters = [_views(views), *_filters(views), *_places()]
    stream = {
        "operationId": "live",
        "tags": ["live"],
        "summary": "Documents as they change, as server-sent events.",
        "description": _ABOUT,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The stream.",
                "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
            }
        }
        | responses,
    }
    socket = {
        "operationId": "live_socket",
        "tags": ["live"],
        "summary": "The same messages as WebSocket frames, each with `event` and `id` as members.",
        "description": _ABOUT,
        "parameters": parameters,
        "responses": {"101": {"description": "The WebSocket is open."}} | responses,
    }
    ticket = {
        "operationId": "live_ticket",
        "tags": ["live"],
        "summary": "A ticket that opens one stream, for browsers, which can send no headers with it.",
        "description": f"Used once, as `?ticket=…`, within {TICKET_SECONDS} s. Any role of the tenant may ask.",
        "responses": {
            "201": {
                "description": "The ticket.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["ticket", "expires_in"],
                            "properties": {"ticket": {"type": "string"}, "expires_in": {"type": "integer"}},
                        },
                        "example": {"ticket": "cZ3k…", "expires_in": TICKET_SECONDS},
                    }
                },
            }
        }
        | responses,
    }
    return {
        "/v1/live": {"get": stream},
        "/v1/live/ws": {"get": socket},
        "/v1/live/tickets": {"post": ticket},
    }


def _views(views: Mapping[str, object]) -> Document:
    return {
        "name": "views",
        "in": "query",
        "required": True,
        "description": "What to follow.",
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": sorted(views)}},
    }


def _filters(views: Mapping[str, type[ListQuery]]) -> list[Document]:
    having: dict[str, list[str]] = {}
    for view, query in views.items():
        for name in filter_names(query):
            having.setdefault(name, []).append(view)
    return [
        {
            "name": name,
            "in": "query",
            "description": f"As in the lists of {', '.join(sorted(of))}; holds for each of these that is followed.",
            "schema": {"type": "string"},
        }
        for name, of in sorted(having.items())
    ]


def _places() -> list[Document]:
    return [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last `id` that was taken: the stream goes on after it.",
            "schema": {"type": "string"},
        },
        {
            "name": "after",
            "in": "query",
            "description": "The same, where no header can be sent.",
            "schema": {"type": "string"},
        },
        {
            "name": "ticket",
            "in": "query",
            "description": "In place of the Authorization header.",
            "schema": {"type": "string"},
        },
    ]
