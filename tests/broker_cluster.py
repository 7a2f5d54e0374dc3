"""
Three RabbitMQ nodes that are one cluster, on this machine: own ports, own cookie, own name server, own data.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infra.embedded.ports import free_port, is_free
from infra.embedded.process import Program, end, spawn, wait_until
from infra.embedded.rabbitmq import RabbitServer
from infra.embedded.server import RunningServer

NODES = ("first", "second", "third")
NAME_SERVER_SECONDS_MAX = 10.0


class ClusterNode(RabbitServer):
    """One node: the first makes the cluster, the others join it when they first start."""

    def __init__(self, cluster: Path, node: str, epmd_port: int) -> None:
        super().__init__(cluster / node, free_port(), print)
        self.node = f"{node}@localhost"
        self._cluster = cluster
        self._epmd_port = epmd_port

    def prepare(self) -> None:
        """Write its configuration, and whom to join."""
        super().prepare()
        if self.node != f"{NODES[0]}@localhost":
            with (self.folder / "rabbitmq.conf").open("a") as file:
                file.write(
                    "cluster_formation.peer_discovery_backend = classic_config\n"
                    f"cluster_formation.classic_config.nodes.1 = {NODES[0]}@localhost\n"
                )

    def name_server(self) -> Program:
        """Return the name server, of which a cluster has one."""
        (program,) = super().companions()
        return program

    def companions(self) -> Sequence[Program]:
        """Return none: the name server outlives a node."""
        return ()

    def _environment(self) -> dict[str, str]:
        home = {"HOME": str(self._cluster)}  # for the cookie, which they share
        return {**super()._environment(), **home, "RABBITMQ_NODENAME": self.node}


@contextmanager
def broker_cluster(folder: Path) -> Iterator[Sequence[RunningServer]]:
    """Keep three nodes that a test may kill and start."""
    folder.mkdir(parents=True)
    epmd_port = free_port()
    nodes = [ClusterNode(folder, node, epmd_port) for node in NODES]
    running = [RunningServer(node) for node in nodes]
    with ExitStack() as stack:
        nodes[0].prepare()
        name_server = nodes[0].name_server()
        process = spawn(name_server, output=folder / "epmd.log")
        stack.callback(end, process, name_server)
        assert wait_until(lambda: not is_free(epmd_port), NAME_SERVER_SECONDS_MAX), "no name server"
        for one in running:
            stack.callback(one.stop)
            one.start()
        yield running
