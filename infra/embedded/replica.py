"""
A streaming replica of an embedded PostgreSQL: a base backup of the primary that follows it.

For tests of reads from replicas. It answers once it has reached the primary's position of its start.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.errors import ServerDidNotStart
from infra.embedded.ports import LOOPBACK, free_port
from infra.embedded.postgres import SUPERUSER, PostgresServer
from infra.embedded.server import RunningServer, running


class PostgresReplica(PostgresServer):
    """A read-only PostgreSQL that follows another."""

    name = "postgres-replica"

    def __init__(self, folder: Path, port: int, primary: PostgresServer) -> None:
        super().__init__(folder, port, database=primary.database, fast=primary.fast)
        self.primary = primary

    @property
    def password_file(self) -> Path:
        """The primary's own: a backup has its accounts too."""
        return self.primary.password_file

    def _initialise(self) -> None:
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        finished = self.tool(
            "pg_basebackup",
            f"--pgdata={partial}",
            f"--dbname=postgresql://{SUPERUSER}@{LOOPBACK}:{self.primary.port}/postgres",
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
        )
        if finished:
            raise ServerDidNotStart(self.name, finished)
        with (partial / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f"primary_conninfo = 'host={LOOPBACK} port={self.primary.port} user={SUPERUSER} "
                f"password={self._password()}'\n"
            )
        partial.rename(self.data)


@contextmanager
def replica_of(primary: PostgresServer, folder: Path) -> Iterator[RunningServer]:
    """Run a replica for a block, with its files in a folder that belongs to the servers' account."""
    with running(PostgresReplica(folder, free_port(), primary)) as replica:
        yield replica
