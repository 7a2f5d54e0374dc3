"""
The query API's OpenAPI document, made from the declarations: parameters, answers, examples and problems.
"""

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from event_store.operations import ASKED
from infra.openapi import POSITION_HEADER, Document, document, example_of, problem_responses
from infra.problems import ProblemTypes
from query_api.exports.export import can_be_exported
from query_api.exports.formats import CSV, PARQUET
from query_api.live.openapi import live_paths, live_schemas
from query_api.live.subscription import live_views
from query_api.parameters import Parameters
from query_api.query import ComputedQuery, DocumentQuery, ListQuery, Query
from schemas.messages import View

STATUSES = (400, 401, 403, 404, 405, 406, 410, 412, 414, 422, 429, 431, 500, 503)
_REFERENCE = "#/components/schemas/{model}"
_PARAMETERS: list[Document] = [
    {
        "name": "Everfold-Position",
        "in": "header",
        "description": "The answer is at least as new as this; what commands and queries answered with.",
        "schema": {"type": "string", "maxLength": 128, "examples": ["p1.3.2a.9f31c2d4.0a1b2c"]},
    },
    {
        "name": "If-None-Match",
        "in": "header",
        "description": "304 when the answer is still this one; with `Prefer: wait=…` it waits for a change.",
        "schema": {"type": "string", "examples": ['"6b86b273ff34fce1"']},
    },
    {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N`: seconds to wait for the position, 30 at most, 2 unless given. `handling=lenient`: "
        "rather an older answer, marked `Everfold-Stale: ?1`, than a problem.",
        "schema": {"type": "string", "examples": ["wait=5", "handling=lenient"]},
    },
]
_HEADERS: Document = {
    "Everfold-Position": POSITION_HEADER,
    "ETag": {"schema": {"type": "string"}, "description": "Opaque."},
    "Cache-Status": {"schema": {"enum": ["everfold; hit", "everfold; fwd=miss"]}},
    "Everfold-Stale": {"schema": {"const": "?1"}, "description": "The answer is older than was asked."},
    "Preference-Applied": {"schema": {"type": "string"}},
}
_LINK: Document = {"Link": {"schema": {"type": "string"}, "description": 'The next page: `rel="next"`.'}}

_FILES: Document = {
    media_type: {"schema": {"type": "string", "format": "binary", "description": "The whole list, streamed."}}
    for media_type in (CSV, PARQUET)
}

Described = tuple[type[Query], type[Parameters]]


def openapi_of(queries: Sequence[Described], problems: ProblemTypes) -> Document:
    """Return the document of queries and the parameters that their routes take."""
    api = document("Everfold queries", "What has happened, as read models. Nothing here changes anything.")
    views: list[type[View]] = list(dict.fromkeys(query.view for query, _ in queries))
    _, definitions = models_json_schema([(view, "serialization") for view in views], ref_template=_REFERENCE)
    api["components"]["schemas"] |= definitions.get("$defs", {})
    responses = problem_responses(STATUSES, problems)
    for query, parameters in queries:
        operation = _operation(query, parameters, api["components"]["schemas"], responses)
        api["paths"][f"/v1/{query.route}"] = {"get": operation}
    api["paths"]["/v1/status"] = {"get": _status(responses)}
    followed = live_views(query for query, _ in queries)
    api["paths"] |= live_paths(followed, responses)
    api["components"]["schemas"] |= live_schemas(followed)
    api["paths"] |= _operations(
        api["components"]["schemas"], problem_responses((*STATUSES, 409, 413, 415), problems)
    )
    api["tags"] = [{"name": tag} for tag in dict.fromkeys((*(_tag(query) for query, _ in queries), "live"))]
    return api


def _tag(query: type[Query]) -> str:
    return query.route.split("/")[0]


def _operation(
    query: type[Query], parameters: type[Parameters], components: Document, responses: Document
) -> Document:
    schema = _answer_schema(query)
    role = f"Needs the role `{query.permission}`." if query.permission else "Any role of the tenant may ask."
    return {
        "operationId": query.name.replace("-", "_"),
        "tags": [_tag(query)],
        "summary": query.title(),
        "description": role,
        "parameters": [*_path_parameters(query), *_query_parameters(parameters), *_PARAMETERS],
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": _HEADERS | (_LINK if _is_list(query) else {}),
                "content": {"application/json": {"schema": schema, "example": _example(query, components)}}
                | (_FILES if can_be_exported(query) else {}),
            },
            "304": {"description": "The client has this answer already.", "headers": _HEADERS},
        }
        | responses,
    }


def _is_list(query: type[Query]) -> bool:
    return not issubclass(query, DocumentQuery | ComputedQuery)


def _answer_schema(query: type[Query]) -> Document:
    view: Document = {"$ref": _REFERENCE.format(model=query.view.__name__)}
    is_framed = issubclass(query, ListQuery) and query.frame is not None
    if not _is_list(query) or is_framed:
        return view
    return {
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": view},
            "next": {"type": ["string", "null"], "description": "The cursor of the next page."},
        },
    }


def _example(query: type[Query], components: Document) -> Any:
    item = example_of(components[query.view.__name__], components)
    is_framed = issubclass(query, ListQuery) and query.frame is not None
    return {"items": [item], "next": None} if _is_list(query) and not is_framed else item


def _path_parameters(query: type[Query]) -> list[Document]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "example": f"{name.removesuffix('_id').upper()}-1",
        }
        for name in query.path_names
    ]


def _query_parameters(parameters: type[Parameters]) -> list[Document]:
    schema = parameters.model_json_schema(ref_template=_REFERENCE)
    found = []
    for name, inner in schema.get("properties", {}).items():
        plain = {key: value for key, value in inner.items() if key not in ("title", "description", "default")}
        parameter: Document = {"name": name, "in": "query", "schema": plain}
        if inner.get("default") not in (None, []):
            plain["default"] = inner["default"]
        if name in schema.get("required", ()):
            parameter["required"] = True
        if "description" in inner:
            parameter["description"] = inner["description"]
        if name in parameters.repeated:
            parameter |= {"style": "form", "explode": True}
        found.append(parameter)
    return found


def _operations(components: Document, responses: Document) -> Document:
    asked = ASKED.json_schema(ref_template=_REFERENCE)
    components |= asked.pop("$defs")
    operation: Document = {"type": "object", "required": ["id", "kind", "state", "request", "progress"]}
    replay = {
        "kind": "replay",
        "projections": ["orders"],
        "verify": True,
        "reason": "asked for by the auditors",
    }
    number = {
        "name": "operation_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    }

    def one(name: str, summary: str, status: str, **more: Any) -> Document:
        answer = {"description": "The operation.", "content": {"application/json": {"schema": operation}}}
        if status == "202":
            answer["headers"] = {"Location": {"schema": {"type": "string"}, "description": "Where to look."}}
        said = {"operationId": name, "tags": ["operations"], "summary": summary}
        return (
            said
            | {"description": "Needs the role `operator`."}
            | more
            | {"responses": {status: answer} | responses}
        )

    body = {"required": True, "content": {"application/json": {"schema": asked, "example": replay}}}
    listed = {"description": "Operations.", "content": {"application/json": {"schema": {"type": "object"}}}}
    listing = one("operations", "What operators have asked for, latest first.", "200")
    return {
        "/v1/operations": {
            "get": listing | {"responses": {"200": listed} | responses},
            "post": one(
                "operate",
                "Ask for an operation; the role that owns it carries it out.",
                "202",
                requestBody=body,
            ),
        },
        "/v1/operations/{operation_id}": {
            "get": one("operation", "How an operation stands.", "200", parameters=[number]),
            "delete": one("cancel_operation", "Ask for an operation's end.", "202", parameters=[number]),
        },
    }


def _status(responses: Document) -> Document:
    return {
        "operationId": "status",
        "tags": ["status"],
        "summary": "How the system stands, as `everfold status --json` says it.",
        "description": "Needs the role `operator`.",
        "responses": {
            "200": {
                "description": "The status.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        }
        | responses,
    }
