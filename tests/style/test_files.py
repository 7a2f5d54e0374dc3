"""What every file must have, and what none may hold."""

import ast
import re
from pathlib import Path

import pytest

from tests.style.sources import ROOT, python_files, tracked

TEXT_BYTES_MAX = 2_000_000
# Put together here, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"))
]
REGISTRY_HOSTS += [".".join(parts) for parts in (("deb", "debian", "org"), ("archive", "ubuntu", "com"))]
MACHINE_PATHS = re.compile(r"(?<![\w.$}/-])/(?:work|home/\w+|root|Users/\w+)" + "/")
SWITCHED_OFF = re.compile(
    r"pytest\.(?:skip|xfail|importorskip)\(|mark\.(?:skip|skipif|xfail)\b|unittest\.skip"
)
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")


def lines_that(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def text_of(path: Path) -> str:
    if path.is_symlink() or path.stat().st_size > TEXT_BYTES_MAX:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        source.name for source in python_files() if source.tree.body and not ast.get_docstring(source.tree)
    ]
    assert silent == []


def test_every_sql_file_opens_with_a_header() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix == ".sql" and not path.read_text().lstrip().startswith(("--", "/*"))
    ]
    assert silent == []


def test_no_module_is_called_utils() -> None:
    nameless = [
        source.name for source in python_files() if source.path.stem in ("utils", "util", "helpers", "misc")
    ]
    assert nameless == []


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)))
    assert lines_that(hosts, list(tracked())) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert lines_that(MACHINE_PATHS, list(tracked())) == []


def test_no_test_is_switched_off() -> None:
    tests = [source.path for source in python_files("tests") if source.path != Path(__file__)]
    assert lines_that(SWITCHED_OFF, tests) == []


def test_nothing_is_left_for_later() -> None:
    code = [
        path for path in tracked() if path.suffix in (".py", ".sql", ".lua", ".sh") or path.name == "Makefile"
    ]
    assert lines_that(UNFINISHED, code) == []


@pytest.mark.parametrize("line", ["see /work" + "/main", "cd /home/me" + "/project"])
def test_a_path_of_a_machine_would_be_seen(line: str) -> None:
    assert MACHINE_PATHS.search(line)


@pytest.mark.parametrize("line", ["https://example.org/work" + "/x", "$HOME/work" + "/x", "a/home/b" + "/c"])
def test_an_address_is_not_taken_for_one(line: str) -> None:
    assert not MACHINE_PATHS.search(line)
