"""Imports point one way, and a domain's rules and folds touch nothing but the language."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.style.sources import PACKAGES, ROOT, STDLIB, Source, domains, is_domain_file, python_files

IMPURE_MODULES = {
    "asyncio", "builtins", "concurrent", "ctypes", "http", "importlib", "io", "logging", "multiprocessing", "os",
    "pathlib", "random", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
IMPURE_CALLS = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now", "datetime.date.today",
    "open", "print", "input", "exec", "eval", "compile", "__import__",
}  # fmt: skip
LANGUAGE_LIBRARIES = {"pydantic", "pydantic_core", "annotated_types", "orjson"}
LANGUAGE_MODULES = {"importlib", "http"}
"""Of the impure ones, what the language may use: the registry imports what it lists; statuses are names."""

# What a domain's part of a layer may import of the layers, besides the language and itself.
PURE_PARTS = {
    "command_api": ("command_api.decider", "command_api.workflow", "infra.domains.Domain"),
    "projectors": ("projectors.projection", "orjson"),
}
# What the query side may know of the projectors: definitions, not what runs them.
PROJECTION_DEFINITIONS = ("projectors.projection", "projectors.folding", "projectors.decoding")


def test_the_layers_import_in_one_direction() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def begins(module: str, *prefixes: str) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("layer", PURE_PARTS)
def test_rules_and_folds_import_only_the_language(layer: str) -> None:
    wrong = [
        f"{source.name} imports {module}"
        for source in python_files(layer)
        if is_domain_file(source)
        for module in source.imports()
        if not (
            begins(module, "schemas", *PURE_PARTS[layer])
            or begins(module, *(f"{layer}.{domain}" for domain in domains()))
            or (module.split(".")[0] in STDLIB and module.split(".")[0] not in IMPURE_MODULES)
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("layer", [*PURE_PARTS, "schemas"])
def test_time_chance_and_the_world_are_not_asked_in_rules_and_folds(layer: str) -> None:
    wrong = [
        f"{source.name} calls {call}"
        for source in python_files(layer)
        if layer == "schemas" or is_domain_file(source)
        for call in source.calls()
        if call in IMPURE_CALLS
    ]
    assert wrong == []


def test_the_language_imports_nothing_that_reaches_outside() -> None:
    wrong = [
        f"{source.name} imports {module}"
        for source in python_files("schemas")
        for module in source.imports()
        if (root := module.split(".")[0]) != "schemas"
        and root not in LANGUAGE_LIBRARIES
        and (root not in STDLIB or root in IMPURE_MODULES - LANGUAGE_MODULES)
    ]
    assert wrong == []


def test_the_query_side_knows_of_the_projectors_only_definitions() -> None:
    definitions = (*PROJECTION_DEFINITIONS, *(f"projectors.{domain}" for domain in domains()))
    wrong = [
        f"{source.name} imports {module}"
        for source in python_files("query_api")
        for module in source.imports()
        if begins(module, "projectors") and not begins(module, *definitions)
    ]
    assert wrong == []


def test_the_engine_names_no_domain() -> None:
    wrong = [
        f"{source.name} imports {module}"
        for source in python_files(*PACKAGES)
        if not is_domain_file(source)
        for module in source.imports()
        if any(begins(module, f"{layer}.{domain}") for layer in PACKAGES for domain in domains())
    ]
    assert wrong == []


def test_imports_and_calls_are_seen_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "rule.py"
    path.write_text("def decide():\n    import time\n    from datetime import datetime\n    datetime.now()\n")
    source = Source(path)
    assert list(source.imports()) == ["time", "datetime.datetime"]
    assert list(source.calls()) == ["datetime.now"]
