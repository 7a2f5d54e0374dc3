"""
Live streams in the query API's OpenAPI document.

OpenAPI 3.1 has no word for a stream of things, so its `schema` is that of one event, as clients' event sources hand it
on: that is how tools read it which look into streams at all. What an event's `data` holds is said by its content's
schema.
"""

from collections.abc import Mapping

from infra.openapi import Document
from query_api.live import messages
from query_api.live.subscription import filter_names
from query_api.live.tickets import TICKET_SECONDS
from query_api.query import ListQuery

EVENT, CHANGE, VIEWS = "LiveEvent", "LiveChange", "LiveViews"
_REFERENCE = "#/components/schemas/{name}"
_EXAMPLE = {
    "event": messages.CHANGE,
    "id": "b3Bhcw",
    "data": '{"view":"orders","key":"INV-1","version":2,"position":"p1.3.2a.9f31c2d4.0a1b2c","op":"delete",'
    '"document":null}',
}
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
                "description": "The stream; the schema is that of one event.",
                "content": {"text/event-stream": {"schema": _refer(EVENT), "example": _EXAMPLE}},
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


def live_schemas(views: Mapping[str, type[ListQuery]]) -> Document:
    """Return the schemas that the paths refer to; those of the views' documents are among the others."""
    told: list[Document] = [
        {
            "properties": {
                "view": {"const": name},
                "op": {"const": "put"},
                "document": _refer(query.view.__name__),
            }
        }
        for name, query in sorted(views.items())
    ]
    told.append({"properties": {"op": {"const": "delete"}, "document": {"type": "null"}}})
    return {
        EVENT: {
            "description": "An event of a live stream.",
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "event": {"type": "string"},
                "id": {"type": "string", "description": "Opaque: what a stream goes on after."},
                "data": {"type": "string"},
            },
            "oneOf": [
                _event_with(CHANGE, messages.SNAPSHOT, messages.CHANGE),
                _event_with(VIEWS, messages.SNAPSHOT_END, messages.RESET),
            ],
        },
        CHANGE: {
            "description": "What has become of a document.",
            "type": "object",
            "required": ["view", "key", "version", "position", "op", "document"],
            "properties": {
                "view": {"type": "string", "enum": sorted(views)},
                "key": {"type": "string", "description": "Its ids as they stand in a path."},
                "version": {
                    "type": ["integer", "null"],
                    "description": "Of the stream that it is made from.",
                },
                "position": {"type": "string", "maxLength": 128, "description": "What it reflects."},
                "op": {"type": "string", "enum": ["put", "delete"]},
                "document": {"type": ["object", "null"]},
            },
            "oneOf": told,
        },
        VIEWS: {
            "description": "Which views an event is about.",
            "type": "object",
            "required": ["views"],
            "properties": {
                "views": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "string", "enum": sorted(views)},
                }
            },
        },
    }


def _event_with(data: str, *events: str) -> Document:
    content = {"contentMediaType": "application/json", "contentSchema": _refer(data)}
    return {"properties": {"event": {"enum": [*events]}, "data": content}}


def _refer(name: str) -> Document:
    return {"$ref": _REFERENCE.format(name=name)}


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
