"""
Debian's RabbitMQ and Erlang, unpacked into the user's cache without root.

There is no wheel of RabbitMQ. Where there is `apt-get`, any user can have it fetch packages, if its state
lies in a folder of theirs; apt checks the signatures. Unpacked elsewhere than `/usr` the packages need one
change: Erlang's start scripts name their own root. A RabbitMQ that is installed is used as it is.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.embedded.errors import ServerMissing
from infra.embedded.process import Program, run_tool

ERLANG_PARTS = (
    "asn1", "base", "crypto", "eldap", "ftp", "inets", "mnesia", "os-mon", "parsetools", "public-key",
    "runtime-tools", "snmp", "ssl", "syntax-tools", "tftp", "tools", "xmerl",
)  # fmt: skip
PACKAGES = ("rabbitmq-server", *(f"erlang-{part}" for part in ERLANG_PARTS))
TOOL_SECONDS_MAX = 300.0
REMEDY = (
    "install RabbitMQ (Debian and Ubuntu: apt install rabbitmq-server), or name one: EVERFOLD_BROKER_URL for "
    "`everfold up`, EVERFOLD_TEST_BROKER_URL for tests, as amqp://user:password@host:port/"
)


def rabbitmq_root(say: Callable[[str], None]) -> Path:
    """
    Return the folder that stands for `/` of an installed or unpacked RabbitMQ.

    Raises:
        ServerMissing: There is none and it cannot be fetched.
    """
    if _home_of(Path("/")) is not None and (Path("/usr/lib/erlang/bin/erl")).exists():
        return Path("/")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "everfold"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / "rabbitmq"
    with (cache / "rabbitmq.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be at it
        if not root.exists():
            _fetch(root, cache / "rabbitmq.partial", say)
    return root


def rabbitmq_home(root: Path) -> Path:
    """
    Return RabbitMQ's own folder under such a root.

    Raises:
        ServerMissing: It is not there.
    """
    home = _home_of(root)
    if home is None:
        raise ServerMissing("RabbitMQ", f"remove {root} and repeat; or {REMEDY}")
    return home


def _home_of(root: Path) -> Path | None:
    return next(iter(sorted(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"), reverse=True)), None)


def _fetch(root: Path, partial: Path, say: Callable[[str], None]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ServerMissing("RabbitMQ", REMEDY)
    say("Fetching Debian's RabbitMQ into your cache (once, some 35 MB)…")
    shutil.rmtree(partial, ignore_errors=True)
    downloads = partial / "downloads"
    for folder in ("state/lists/partial", "cache/archives/partial", "downloads", "root"):
        (partial / folder).mkdir(parents=True)
    options = [
        f"-oDir::State={partial / 'state'}",
        "-oDir::State::status=/var/lib/dpkg/status",
        f"-oDir::Cache={partial / 'cache'}",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=",
        "-oAcquire::Languages=none",
        "-oAcquire::Retries=2",
        "-qq",
    ]
    _run("apt-get", *options, "update", folder=downloads)
    _run("apt-get", *options, "download", *PACKAGES, folder=downloads)
    for package in sorted(downloads.glob("*.deb")):
        _run("dpkg", "--extract", str(package), str(partial / "root"), folder=downloads)
    _relocate(partial / "root", root)
    (partial / "root").rename(root)
    shutil.rmtree(partial)


def _relocate(unpacked: Path, root: Path) -> None:
    """Let Erlang's start scripts name the folder where they will lie."""
    erlang = unpacked / "usr/lib/erlang"
    for script in (*erlang.glob("bin/*"), *erlang.glob("erts-*/bin/*")):
        content = script.read_bytes()
        if content.startswith(b"#!/bin/sh"):
            script.unlink()  # one may be a link to another
            script.write_bytes(content.replace(b"/usr/lib/erlang", bytes(root / "usr/lib/erlang")))
            script.chmod(0o755)


def _run(*command: str, folder: Path) -> None:
    finished = run_tool(Program(command[0], _plain(command), folder=folder, grace_seconds=TOOL_SECONDS_MAX))
    if finished.returncode:
        last_line = finished.stdout.strip().rpartition("\n")[2]
        raise ServerMissing("RabbitMQ", f"{REMEDY}. ({' '.join(command[:1])} said: {last_line})")


def _plain(command: Sequence[str]) -> Sequence[str]:
    """Run a tool with untranslated messages and no questions."""
    return ["env", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *command]
