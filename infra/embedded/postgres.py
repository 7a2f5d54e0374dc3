"""
PostgreSQL from a wheel: its data in a folder of ours, its life bound to ours.

Clients reach it over TCP on the loopback interface with a random password that lies beside the data,
readable by us alone. It has no Unix socket, whose path would have to be shorter than many a project's.

Two profiles: `DURABLE` keeps what it acknowledged, `FAST` is for tests and keeps nothing after a crash.
The wheel has neither ICU nor OpenSSL, so the locale is C.UTF-8 and migrations do without pgcrypto.
"""

import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psycopg

from infra.embedded.account import server_account
from infra.embedded.errors import DataOfOtherVersion, ServerDidNotStart
from infra.embedded.orphans import end_orphan
from infra.embedded.ports import LOOPBACK
from infra.embedded.postgres_binaries import binaries
from infra.embedded.priority import PROMPT
from infra.embedded.process import Program, run_tool
from infra.embedded.server import Server

SUPERUSER = "postgres"
INITDB_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 2

DURABLE: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}
FAST: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum_naptime": "1h",
}
COMMON: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "wal_level": "replica",
    "max_wal_senders": "8",
    "hot_standby": "on",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "random_page_cost": "1.1",  # not a spinning disk
    "jit": "off",  # our statements are many and short
    "max_parallel_workers_per_gather": "1",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOTHING_ELSE: Mapping[str, str] = {}


class PostgresServer(Server):
    """One PostgreSQL cluster on the loopback interface."""

    name = "postgres"

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        database: str = "postgres",
        fast: bool = False,
        settings: Mapping[str, str] = NOTHING_ELSE,
    ) -> None:
        """`settings` come on top of what servers here have in common."""
        self.folder = folder
        self.port = port
        self.database = database
        self.fast = fast
        self.settings = settings

    @property
    def data(self) -> Path:
        """The cluster itself."""
        return self.folder / "data"

    @property
    def password_file(self) -> Path:
        """The superuser's password, readable by the server's account alone."""
        return self.folder / "password"

    @property
    def log_file(self) -> Path:
        """Where what it says is kept."""
        return self.folder / "postgres.log"

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """Return the address of another database of this cluster."""
        return f"postgresql://{SUPERUSER}:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> None:
        """
        Make the cluster if there is none, and end what a killed run may have left running on it.

        Raises:
            DataOfOtherVersion: Another major version wrote it.
            ServerDidNotStart: The cluster could not be made.
        """
        end_orphan(self.data / "postmaster.pid", "postgres")
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        written_by = (self.data / "PG_VERSION").read_text().strip()
        if written_by != binaries().major_version:
            raise DataOfOtherVersion(str(self.data), written_by, binaries().major_version)

    def _initialise(self) -> None:
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(24))
        server_account().own(self.password_file)
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed while it made one
        finished = self.tool(
            "initdb",
            f"--pgdata={partial}",
            f"--username={SUPERUSER}",
            f"--pwfile={self.password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            *(["--no-sync"] if self.fast else ["--data-checksums"]),
        )
        if finished:
            raise ServerDidNotStart(self.name, finished)
        partial.rename(self.data)

    def program(self) -> Program:
        """Return how it is run."""
        settings = {
            **COMMON, **(FAST if self.fast else DURABLE), **self.settings, "port": str(self.port)
        }  # fmt: skip
        command = [str(binaries().tool("postgres")), "-D", str(self.data)]
        for setting, value in settings.items():
            command += ["-c", f"{setting}={value}"]
        return Program(
            self.name,
            command,
            account=server_account(),
            folder=self.folder,
            stop_signal=signal.SIGQUIT if self.fast else signal.SIGINT,
            orphan_signal=signal.SIGQUIT if self.fast else signal.SIGINT,
            grace_seconds=20.0,
            priority=PROMPT,
        )

    def is_ready(self) -> bool:
        """Say whether it answers; its database is made on the first occasion."""
        try:
            with psycopg.connect(
                self.url_of("postgres"), connect_timeout=ANSWER_SECONDS_MAX, autocommit=True
            ) as connection:
                self._create_database(connection)
        except psycopg.OperationalError:
            return False
        return True

    def _create_database(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        found = connection.execute(
            "SELECT FROM pg_database WHERE datname = %s OR pg_is_in_recovery()", [self.database]
        )
        if found.fetchone() is None:
            connection.execute(
                psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(self.database))
            )

    def tool(self, name: str, *arguments: str) -> str | None:
        """Run one of the server's tools as its account; return None, or why it failed."""
        program = Program(
            name,
            [str(binaries().tool(name)), *arguments],
            account=server_account(),
            folder=self.folder,
            grace_seconds=INITDB_SECONDS_MAX,
            environment={"PGPASSWORD": self._password(), "LC_ALL": "C.UTF-8"},
        )
        finished = run_tool(program)
        return finished.stdout.strip() if finished.returncode else None

    def _password(self) -> str:
        return self.password_file.read_text()
