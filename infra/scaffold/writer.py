"""
Fills in templates and writes what is not there yet; a file that exists is never touched.

A template is a file under `templates/<kind>/`, whose path and text hold `$names`; its path is the path below the
repository's root, with `.tmpl` at the end.
"""

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from schemas.errors import BadDefinition


def write(kind: str, root: Path, names: Mapping[str, str]) -> list[Path]:
    """
    Write the files of one kind and return their paths.

    Raises:
        BadDefinition: One of them is there already; then nothing is written.
    """
    files = {
        root / Template(name.removesuffix(".tmpl")).substitute(names): Template(text).substitute(names)
        for name, text in _templates(resources.files("infra.scaffold").joinpath("templates", kind), "")
    }
    for path in files:
        if path.exists():
            raise BadDefinition(str(path.relative_to(root)), "is there already; nothing was written")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


def _templates(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".tmpl"):
            found.append((f"{prefix}{entry.name}", entry.read_text(encoding="utf-8")))
    return sorted(found)
