"""The OpenAPI document says what the routes do."""

from collections.abc import Iterator
from typing import Any

import pytest

from command_api.openapi import STATUSES, openapi_of
from command_api.parsing import CommandReader
from infra.domains import Domain, load_registry
from infra.problems import ProblemTypes
from tests.toy import DOMAIN
from tests.toy.world import REGISTRY

API = openapi_of(REGISTRY, ProblemTypes(REGISTRY.rejections.values()))


def references(value: Any) -> Iterator[str]:
    """Return every reference in a document."""
    match value:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for inner in value.values():
                yield from references(inner)
        case list():
            for inner in value:
                yield from references(inner)


def resolve(reference: str) -> Any:
    place: Any = API
    for part in reference.removeprefix("#/").split("/"):
        place = place[part]
    return place


def test_every_command_has_its_route_and_every_reference_leads_somewhere() -> None:
    assert API["openapi"].startswith("3.1")
    assert set(API["paths"]) == {f"/v1/{model.route}" for model in REGISTRY.commands.values()} | {
        "/v1/commands"
    }
    for reference in references(API):
        assert resolve(reference)


def test_operations_have_names_of_their_own_tags_and_all_problems() -> None:
    operations = [methods["post"] for methods in API["paths"].values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["tags"]
        assert {"200", *map(str, STATUSES)} == set(operation["responses"])
        for status in map(str, STATUSES):
            assert "application/problem+json" in operation["responses"][status]["content"]


def test_a_rules_refusals_stand_at_409() -> None:
    conflict = API["paths"]["/v1/accounts/{account_id}/withdraw"]["post"]["responses"]["409"]
    examples = conflict["content"]["application/problem+json"]["examples"]
    assert {"insufficient-funds", "concurrent-update"} <= set(examples)


@pytest.mark.parametrize("domain", [DOMAIN], ids=lambda domain: domain.name)
def test_examples_are_what_the_routes_take(domain: Domain) -> None:
    registry = load_registry([domain])
    api = openapi_of(registry, ProblemTypes())
    for model in registry.commands.values():
        operation = api["paths"][f"/v1/{model.route}"]["post"]
        ids = {
            parameter["name"]: parameter["example"]
            for parameter in operation["parameters"]
            if parameter["in"] == "path"
        }
        example = operation["requestBody"]["content"]["application/json"]["example"]
        CommandReader(model).read(ids, example)


def test_ids_stand_in_the_address_and_not_in_the_body() -> None:
    operation = API["paths"]["/v1/accounts/{account_id}/open"]["post"]
    schema = resolve(operation["requestBody"]["content"]["application/json"]["schema"]["$ref"])
    assert set(schema["properties"]) == {"owner", "reason", "occurred_at"}
    assert schema["additionalProperties"] is False
