"""
RabbitMQ as a child of ours, for `everfold up --broker rabbitmq` and for tests on a machine that runs none.

The node has ports, a cookie and a name server (epmd) of its own, all on the loopback interface, so it meets
no other Erlang on the machine. On Debian 12 it is a 3.10, older than what production should use.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika

from infra.embedded.debian import rabbitmq_home, rabbitmq_root
from infra.embedded.ports import LOOPBACK, answers, free_port
from infra.embedded.process import Program
from infra.embedded.server import Server

AMQP_PORT = 5672
LOCAL_URL = f"amqp://guest:guest@{LOOPBACK}:{AMQP_PORT}/"
ERLANG_ARGUMENTS = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
LOGIN_SECONDS_MAX = 5.0
CONTROL_SECONDS_MAX = 60.0


class RabbitServer(Server):
    """One RabbitMQ node on the loopback interface."""

    name = "rabbitmq"
    start_seconds_max = 120.0

    def __init__(self, folder: Path, port: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.port = port
        self._say = say
        self._epmd_port = free_port()
        self._distribution_port = free_port()

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def log_file(self) -> Path:
        """Where what it says is kept."""
        return self.folder / "rabbitmq.log"

    @property
    def _root(self) -> Path:
        return rabbitmq_root(self._say)

    def prepare(self) -> None:
        """
        Fetch it if need be, and write its configuration.

        Raises:
            ServerMissing: It is not installed and cannot be fetched.
        """
        rabbitmq_home(self._root)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = {LOOPBACK}:{self.port}\n"
            "log.console = true\n"
            "log.console.level = warning\n"
            "log.file = false\n"
            "disk_free_limit.absolute = 50MB\n"
        )

    def companions(self) -> Sequence[Program]:
        """Return the name server that the node registers with."""
        (epmd,) = sorted(self._root.glob("usr/lib/erlang/erts-*/bin/epmd"))[-1:]
        return [Program("epmd", [str(epmd)], environment=self._environment(), folder=self.folder)]

    def program(self) -> Program:
        """Return how it is run."""
        script = rabbitmq_home(self._root) / "sbin" / "rabbitmq-server"
        return Program(
            self.name, [str(script)], environment=self._environment(), folder=self.folder, grace_seconds=30
        )

    def control(self, *arguments: str) -> Program:
        """Return how an administrator talks to the node."""
        script = rabbitmq_home(self._root) / "sbin" / "rabbitmqctl"
        return Program(
            "rabbitmqctl",
            [str(script), *arguments],
            environment=self._environment(),
            folder=self.folder,
            grace_seconds=CONTROL_SECONDS_MAX,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self._root}/usr/lib/erlang/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),  # for the cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": "everfold@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node itself, and signals reach it
        }

    def is_ready(self) -> bool:
        """Say whether clients can log in."""
        return lets_in(self.url)


def lets_in(url: str) -> bool:
    """Say whether a broker answers and takes these credentials."""
    address = urlsplit(url)
    if not answers(address.port or AMQP_PORT, address.hostname or LOOPBACK):
        return False
    found: list[bool] = []

    async def log_in() -> None:
        try:
            connection = await aio_pika.connect(url, timeout=LOGIN_SECONDS_MAX)
            await connection.close()
        except (aio_pika.exceptions.AMQPError, OSError, TimeoutError):
            found.append(False)
        else:
            found.append(True)

    # A thread of its own, as the caller may be inside an event loop.
    thread = threading.Thread(target=lambda: asyncio.run(log_in()))
    thread.start()
    thread.join()
    return found == [True]
