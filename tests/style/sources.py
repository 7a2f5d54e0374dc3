"""What the style's tests look at: the tracked files, and the imports and names in them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ("schemas", "infra", "event_store")
SIDES = ("command_api", "projectors", "query_api", "client")
PACKAGES = (*SHARED, *SIDES)
STDLIB = sys.stdlib_module_names


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path from the root, for messages."""
        return (self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path).as_posix()

    @property
    def tree(self) -> ast.Module:
        """What is written in it."""
        return _parsed(self.path)

    def imports(self) -> Iterator[str]:
        """Every module it imports, wherever in the file, by full name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                assert node.module is not None
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def calls(self) -> Iterator[str]:
        """Every function it calls, as it is written there."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), path.name)


@cache
def tracked() -> tuple[Path, ...]:
    """Return all files that are, or would be, committed."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(
        sorted(ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())
    )


def python_files(*folders: str) -> list[Source]:
    """Return the Python files under some folders of the root."""
    return [
        Source(path)
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in (folders or (*PACKAGES, "tests"))
    ]


@cache
def domains() -> list[str]:
    """Return the domains that are in the tree: the packages inside the language."""
    return sorted(path.parent.name for path in tracked() if path.match("schemas/*/__init__.py"))


def is_domain_file(source: Source) -> bool:
    """Say whether a file belongs to a domain rather than to the engine."""
    return len(parts := Path(source.name).parts) > 2 and parts[1] in domains()
