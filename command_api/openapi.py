"""
The command API's OpenAPI document, made from the registry: each command's route, body, answers and problems.
"""

from typing import Any

from pydantic.json_schema import models_json_schema

from infra.openapi import POSITION_HEADER, Document, document, example_of, problem_responses
from infra.problems import ProblemTypes
from schemas import Command
from schemas.registry import Registry

STATUSES = (400, 401, 403, 404, 405, 406, 409, 412, 413, 414, 415, 422, 429, 431, 500, 503, 504)
_REASON = {"type": "string", "minLength": 1, "maxLength": 1000, "description": "Why; kept beside the events."}
_OCCURRED_AT = {
    "type": "string",
    "format": "date-time",
    "description": "When it happened for the business, RFC 3339 with an offset; now unless given.",
}
_ANSWER: Document = {
    "type": "object",
    "required": ["stream", "version", "position", "events"],
    "properties": {
        "stream": {"type": "string", "description": "The command's main stream."},
        "version": {"type": "integer", "description": "Its version after the command: what If-Match wants."},
        "position": {"type": "string", "description": "Send it with queries to read your write."},
        "events": {
            "type": "array",
            "description": "What happened; empty when the command changed nothing.",
            "items": {"$ref": "#/components/schemas/AppendedEvent"},
        },
    },
}
_EVENT: Document = {
    "type": "object",
    "required": ["id", "type", "schema_version", "stream", "version"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "type": {"type": "string"},
        "schema_version": {"type": "integer"},
        "stream": {"type": "string"},
        "version": {"type": "integer"},
        "data": {"type": "object", "description": "With `Prefer: return=representation` only."},
    },
}
_HEADERS: Document = {
    "Everfold-Position": POSITION_HEADER,
    "ETag": {"schema": {"type": "string"}, "description": "The main stream's version."},
    "Idempotent-Replayed": {
        "schema": {"const": "true"},
        "description": "It is the first answer, given again.",
    },
    "Preference-Applied": {"schema": {"type": "string"}},
}
_PREFER: Document = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string", "examples": ["return=representation"]},
    "description": "`return=representation` adds each event's data.",
}
_PARAMETERS: list[Document] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "description": "The same key means the same request: repeat it without fear.",
    },
    {
        "name": "If-Match",
        "in": "header",
        "schema": {"type": "string", "examples": ['"7"']},
        "description": "The version that the main stream must be at.",
    },
    {
        "name": "If-None-Match",
        "in": "header",
        "schema": {"const": "*"},
        "description": "The main stream must not exist.",
    },
    _PREFER,
]


def openapi_of(registry: Registry, problems: ProblemTypes) -> Document:
    """Return the document."""
    api = document(
        "Everfold commands", "What may be asked to happen. Every accepted command becomes events in the log."
    )
    models = list(registry.commands.values())
    schemas, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    components = api["components"]["schemas"]
    components |= definitions.get("$defs", {}) | {"Answer": _ANSWER, "AppendedEvent": _EVENT}
    for model in models:
        name = schemas[model, "validation"]["$ref"].rpartition("/")[2]
        components[name] = _body_schema(model, components[name])
        rules = [slug for slug, error in registry.rejections.items() if _same_domain(registry, model, error)]
        responses = problem_responses(STATUSES, problems, others=rules)
        api["paths"][f"/v1/{model.route}"] = {"post": _operation(model, name, components, responses)}
    api["paths"]["/v1/commands"] = {"post": _batch(registry, problem_responses(STATUSES, problems))}
    api["tags"] = [{"name": tag} for tag in dict.fromkeys(model.collection for model in models)] + [
        {"name": "commands"}
    ]
    return api


def _same_domain(registry: Registry, model: type, error: type) -> bool:
    return registry.domain_of.get(model) == registry.domain_of.get(error)


def _body_schema(model: type[Command], schema: Document) -> Document:
    """Return the schema of a command's body: its fields without the ids, and what every command may have."""
    properties = {
        name: inner for name, inner in schema.get("properties", {}).items() if name not in model.id_fields
    }
    body = {**schema, "properties": {"reason": _REASON, "occurred_at": _OCCURRED_AT} | properties}
    body["required"] = [name for name in schema.get("required", ()) if name not in model.id_fields]
    if not body["required"]:
        del body["required"]
    return body


def _operation(model: type[Command], name: str, components: Document, responses: Document) -> Document:
    schema = components[name]
    return {
        "operationId": f"{model.collection}_{model.verb}".replace("-", "_"),
        "tags": [model.collection],
        "summary": (model.__doc__ or model.__name__).strip().split("\n")[0],
        "description": f"Needs the role `{model.permission}`.",
        "parameters": [
            *(
                {
                    "name": field,
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
                    "example": f"{field.removesuffix('_id').upper()}-1",
                }
                for field in model.id_fields
            ),
            *_PARAMETERS,
        ],
        "requestBody": {
            "required": "required" in schema,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{name}"},
                    "example": example_of(schema, components),
                }
            },
        },
        "responses": {"200": _accepted("Answer")} | responses,
    }


def _accepted(schema: str) -> Document:
    example = {
        "stream": "things/T-1",
        "version": 1,
        "position": "p1.3.2a.9f31c2d4.0a1b2c",
        "events": [
            {
                "id": "0199a1b2-0000-7000-8000-000000000001",
                "type": "ThingHappened",
                "schema_version": 1,
                "stream": "things/T-1",
                "version": 1,
            }
        ],
    }
    return {
        "description": "It happened and is durable, or had happened before.",
        "headers": _HEADERS,
        "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
        },
    }


def _batch(registry: Registry, responses: Document) -> Document:
    item: Document = {
        "type": "object",
        "required": ["command"],
        "additionalProperties": False,
        "properties": {
            "command": {"enum": list(registry.commands)},
            "id": {"type": "object", "additionalProperties": {"type": "string"}},
            "data": {"type": "object"},
            "idempotency_key": {"type": "string", "minLength": 1, "maxLength": 255},
            "expected_version": {"type": "integer", "minimum": 0},
            "reason": _REASON,
            "occurred_at": _OCCURRED_AT,
        },
    }
    body: Document = {
        "type": "object",
        "required": ["commands"],
        "additionalProperties": False,
        "properties": {
            "commands": {"type": "array", "minItems": 1, "maxItems": 1000, "items": item},
            "atomic": {"type": "boolean", "default": False, "description": "All or none."},
        },
    }
    results: Document = {
        "type": "object",
        "required": ["results"],
        "properties": {
            "results": {
                "type": "array",
                "description": "One for each command, in order: its answer, or its problem.",
                "items": {
                    "type": "object",
                    "required": ["status"],
                    "properties": {
                        "status": {"type": "integer"},
                        "replayed": {"type": "boolean"},
                        "problem": {"$ref": "#/components/schemas/Problem"},
                    }
                    | _ANSWER["properties"],
                },
            }
        },
    }
    return {
        "operationId": "commands_batch",
        "tags": ["commands"],
        "summary": "Carry out up to 1,000 commands in order.",
        "description": "Each is answered by itself; with `atomic` all or none, and the first problem is the answer.",
        "parameters": [_PREFER],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": _batch_example(registry)}},
        },
        "responses": {
            "200": {
                "description": "What became of each command.",
                "headers": {"Everfold-Position": POSITION_HEADER},
                "content": {"application/json": {"schema": results}},
            }
        }
        | responses,
    }


def _batch_example(registry: Registry) -> Any:
    name, model = next(iter(registry.commands.items()), ("", Command))
    schema = model.model_json_schema()
    data = {
        field: value
        for field, value in example_of(schema, schema.get("$defs", {})).items()
        if field not in model.id_fields
    }
    ids = {field: f"{field.removesuffix('_id').upper()}-1" for field in model.id_fields}
    return {
        "commands": [{"command": name, "id": ids, "data": data, "idempotency_key": "one-1"}],
        "atomic": False,
    }
