"""The bound of open files that a process starts with is the user's, who had other programs in mind."""

import resource
import subprocess
import sys

SAYS = (
    "import resource; from infra.open_files import allow_open_files as allow; allow(); allow();"
    "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
)


def bounds_after(soft: int, hard: int) -> list[int]:
    """Return the bounds of a process that began with others and has raised them as far as it may."""
    done = subprocess.run(
        ["sh", "-c", f"ulimit -Sn {soft}; ulimit -Hn {hard}; exec '{sys.executable}' -c '{SAYS}'"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(word) for word in done.stdout.split()]


def test_a_low_bound_is_raised_to_what_is_allowed() -> None:
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 900)
    assert bounds_after(256, hard) == [hard, hard]


def test_what_is_as_high_as_allowed_stays() -> None:
    assert bounds_after(300, 300) == [300, 300]
