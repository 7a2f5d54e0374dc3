"""
A RabbitMQ for tests: the named one, the local one, one in a container, an unpacked one; else a clear failure.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from infra.embedded.ports import free_port
from infra.embedded.rabbitmq import LOCAL_URL, RabbitServer, lets_in
from infra.embedded.server import RunningServer, running

IMAGE = "rabbitmq:4.2"
AMQP_PORT = 5672
CONTAINER_SECONDS_MAX = 90
DOCKER_ANSWER_SECONDS_MAX = 1.0


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Keep a broker for a block; its address is yielded."""
    given = os.environ.get("EVERFOLD_TEST_BROKER_URL")
    if given:
        if not lets_in(given):
            raise ConnectionError("the broker that EVERFOLD_TEST_BROKER_URL names does not let us in")
        yield given
    elif lets_in(LOCAL_URL):
        yield LOCAL_URL
    elif docker_runs():
        with in_container() as url:
            yield url
    else:
        with own_broker(folder) as server:
            yield server.url


@contextmanager
def own_broker(folder: Path) -> Iterator[RunningServer]:
    """Keep a broker that a test may stop, kill and start: an installed or unpacked one, on its own ports."""
    with running(RabbitServer(folder, free_port(), print)) as server:
        yield server


def docker_runs() -> bool:
    """Say whether a container engine answers, without waiting for one that does not."""
    address = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    try:
        if address.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(DOCKER_ANSWER_SECONDS_MAX)
                probe.connect(address.path)
        else:
            port = address.port or 2375
            socket.create_connection((address.hostname or "", port), DOCKER_ANSWER_SECONDS_MAX).close()
    except OSError:
        return False
    return True


@contextmanager
def in_container() -> Iterator[str]:
    """Keep a broker in a container."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    waiting = LogMessageWaitStrategy("Server startup complete").with_startup_timeout(CONTAINER_SECONDS_MAX)
    with DockerContainer(IMAGE).with_exposed_ports(AMQP_PORT).waiting_for(waiting) as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(AMQP_PORT)
        yield f"amqp://guest:guest@{host}:{port}/"
