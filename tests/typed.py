"""What documents show, typed as it stands: shell blocks are run, Python blocks are written to the file they name."""

import re

from tests.copy import ROOT, Copy

BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REFUSED = "# exit 1"


def blocks_of(document: str) -> list[tuple[str, str]]:
    """Return a document's blocks, each with its kind: `sh`, `python` or `text`."""
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


def carry_out(clone: Copy, kind: str, text: str, environment: dict[str, str]) -> str:
    """Type a shell block, or write the file that a Python block names in its first line; return what was said."""
    if kind == "python":
        first, _, rest = text.partition("\n")
        (clone.root / first.removeprefix("# ")).write_text(rest, encoding="utf-8")
        return ""
    said = ""
    for part in split_at_refusals(text):
        done = clone.shell(part, environment)
        said += done.stdout
        expected = 1 if REFUSED in part else 0
        assert done.returncode == expected, f"$ {part}\n{done.stdout}"
    return said


def split_at_refusals(text: str) -> list[str]:
    """Return a shell block in parts: a line that says that it is refused stands by itself."""
    parts = [""]
    for line in text.splitlines(keepends=True):
        if REFUSED in line:
            parts += [line, ""]
        else:
            parts[-1] += line
    return [part for part in parts if part]
