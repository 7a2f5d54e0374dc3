"""
An event class reduced to what stored bytes depend on: its fields with their types, bounds and defaults.

Made from the class's JSON schema, so what only a validator of the class's own knows is not seen here; the corpus of
stored payloads is there for that. Nested models stand where they are used; one that holds itself is named instead.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from schemas.messages import Event, Personal

Shape = dict[str, Any]
"""
What one value may be. Members, where they say something: `type`, `enum`, `format`, `pattern`, `anyOf`, bounds by their
JSON schema names, `items` of an array, `values` of a mapping, `fields` of an object, `open` where an object may have
fields that it does not name, `nullable`, `personal`; of a field also `required` and `default`.
"""

KEPT = (
    "type", "enum", "format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
)  # fmt: skip


def shape_of(event: type[Event]) -> Shape:
    """Return what stored bytes of an event class look like."""
    schema = event.model_json_schema()
    models = {model.__name__: model for model in _models_in(event, set())}
    return _Reduction(schema.get("$defs", {}), models).object(schema, event, ())


class _Reduction:
    """Reduces one class's JSON schema; its definitions and the models behind them are at hand."""

    def __init__(self, definitions: Mapping[str, Any], models: Mapping[str, type[BaseModel]]) -> None:
        self._definitions, self._models = definitions, models

    def object(
        self, schema: Mapping[str, Any], model: type[BaseModel] | None, above: tuple[str, ...]
    ) -> Shape:
        required = schema.get("required", ())
        personal = _personal_fields(model)
        fields: dict[str, Shape] = {}
        for name, value in schema.get("properties", {}).items():
            field = self.value(value, above) | {"required": name in required}
            if "default" in value:
                field["default"] = value["default"]
            if name in personal:
                field["personal"] = True
            fields[name] = field
        shape: Shape = {"type": "object", "fields": fields}
        if schema.get("additionalProperties", True) is not False:
            shape["open"] = True
        return shape

    def value(self, schema: Mapping[str, Any], above: tuple[str, ...]) -> Shape:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name in above:
                return {"same_as": name}
            return self._definition(name, (*above, name))
        if alternatives := schema.get("anyOf") or schema.get("oneOf"):
            return self._alternatives(alternatives, above)
        shape: Shape = {name: schema[name] for name in KEPT if name in schema}
        if "const" in schema:
            shape["enum"] = [schema["const"]]
        if "properties" in schema:
            return self.object(schema, None, above)
        if "items" in schema:
            shape["items"] = self.value(schema["items"], above)
        if "prefixItems" in schema:
            shape["prefixItems"] = [self.value(one, above) for one in schema["prefixItems"]]
        if isinstance(schema.get("additionalProperties"), Mapping):
            shape["values"] = self.value(schema["additionalProperties"], above)
        return shape

    def _definition(self, name: str, above: tuple[str, ...]) -> Shape:
        schema = self._definitions[name]
        if "properties" in schema or schema.get("type") == "object":
            return self.object(schema, self._models.get(name.rpartition("__")[2]), above)
        return self.value(schema, above)

    def _alternatives(self, schemas: list[Mapping[str, Any]], above: tuple[str, ...]) -> Shape:
        others = [schema for schema in schemas if schema.get("type") != "null"]
        shape = (
            self.value(others[0], above)
            if len(others) == 1
            else {"anyOf": [self.value(one, above) for one in others]}
        )
        return shape if len(others) == len(schemas) else shape | {"nullable": True}


def _models_in(annotation: Any, seen: set[Any]) -> Iterator[type[BaseModel]]:
    """Return the models that an annotation leads to."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in seen:
            seen.add(annotation)
            yield annotation
            for field in annotation.model_fields.values():
                yield from _models_in(field.annotation, seen)
        return
    for argument in get_args(annotation):
        yield from _models_in(argument, seen)


def _personal_fields(model: type[BaseModel] | None) -> frozenset[str]:
    fields = model.model_fields if model is not None else {}
    return frozenset(
        field.alias or name
        for name, field in fields.items()
        if any(isinstance(mark, Personal) for mark in (*field.metadata, *_marks(field.annotation)))
    )


def _marks(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for argument in get_args(annotation):
        yield from _marks(argument)
