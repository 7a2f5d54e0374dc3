"""The lock file: everything pinned and hashed, and all that the project asks for in it."""

import re
import tomllib

from infra.bootstrap import entry_of
from tests.style.sources import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PACKAGES = re.findall(r"^([A-Za-z0-9][\w.-]*)", LOCK, re.MULTILINE)


def test_every_package_is_pinned_with_its_hashes() -> None:
    entries = {package: entry_of(package, LOCK) or "" for package in PACKAGES}
    assert len(entries) > 50
    assert [package for package, entry in entries.items() if "--hash=sha256:" not in entry] == []


def test_what_the_project_asks_for_is_in_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=! ;]", requirement, maxsplit=1)[0] for requirement in asked}
    assert names - set(PACKAGES) == set()


def test_the_installer_itself_is_found_in_it() -> None:
    entry = entry_of("uv", LOCK)
    assert entry is not None
    assert entry.startswith("uv==")
    assert entry.count("--hash=") > 1
    assert entry_of("no-such-package", LOCK) is None
