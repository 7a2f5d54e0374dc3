"""
What the OpenAPI documents of both APIs have in common: the problem shape, the token, examples made of schemas.

The documents are made from the same models that requests are checked with, so they cannot say something else.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from infra.problems import ProblemTypes

Document = dict[str, Any]

PROBLEM_SCHEMA: Document = {
    "type": "object",
    "description": "RFC 9457 problem details; the error's own facts stand beside these members.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Answers GET with its explanation."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "additionalProperties": True,
}  # fmt: skip
SECURITY_SCHEMES: Document = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Tenant and roles are read from the token and from nowhere else.",
    }
}
POSITION_HEADER: Document = {
    "description": "Opaque: up to where the log is reflected. Keep the last, and send it with queries.",
    "schema": {"type": "string", "maxLength": 128, "examples": ["p1.3.2a.9f31c2d4.0a1b2c"]},
}


def document(title: str, description: str, *, version: str = "1") -> Document:
    """Return an OpenAPI 3.1 document without paths."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "security": [{"token": []}],
        "tags": [],
        "paths": {},
        "components": {"schemas": {"Problem": PROBLEM_SCHEMA}, "securitySchemes": SECURITY_SCHEMES},
    }


def problem_responses(
    statuses: Iterable[int], problems: ProblemTypes, *, others: Iterable[str] = ()
) -> Document:
    """Return the responses of some statuses, each naming the engine's problem types that it comes with."""
    by_status: dict[int, list[Mapping[str, Any]]] = {}
    for slug in problems:
        explained = problems.explain(slug)
        assert explained is not None
        if "rule" not in explained["members"] or slug in others:
            by_status.setdefault(explained["status"], []).append(explained)
    return {str(status): _problem_response(status, by_status.get(status, [])) for status in statuses}


def _problem_response(status: int, explained: list[Mapping[str, Any]]) -> Document:
    response: Document = {
        "description": " ".join(f"`{item['type'].rpartition('/')[2]}`: {item['title']}" for item in explained)
        or "A problem.",
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {
                    item["type"].rpartition("/")[2]: {
                        "value": {
                            "type": item["type"],
                            "title": item["title"],
                            "status": status,
                            "detail": item["title"],
                            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                        }
                    }
                    for item in explained
                },
            }
        },
    }
    if any(item["retry"] for item in explained):
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return response


def example_of(schema: Mapping[str, Any], definitions: Mapping[str, Any], name: str = "") -> Any:
    """Return a value that fits a schema; names and formats say what it may look like."""
    if "$ref" in schema:
        return example_of(definitions[schema["$ref"].rpartition("/")[2]], definitions, name)
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("default") is not None:
        return schema["default"]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if options := [option for option in schema.get(keyword, ()) if option.get("type") != "null"]:
            return example_of(options[0], definitions, name)
    match schema.get("type"):
        case "object":
            return _example_object(schema, definitions)
        case "array":
            return [example_of(schema.get("items", {}), definitions, name)]
        case "integer" | "number":
            return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", 0), 1)
        case "boolean":
            return True
        case _:
            return _example_text(schema, name)


def _example_object(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Document:
    required = schema.get("required", ())
    return {
        name: example_of(inner, definitions, name)
        for name, inner in schema.get("properties", {}).items()
        if name in required
    }


def _example_text(schema: Mapping[str, Any], name: str) -> str:
    match schema.get("format"):
        case "date":
            return "2027-01-31"
        case "date-time":
            return "2026-01-31T12:00:00Z"
    for candidate in (f"{name.removesuffix('_id').upper().replace('_', '-')}-1", "EUR", "text", "1"):
        if name and re.search(schema.get("pattern", ""), candidate):
            return candidate
    return "text"
