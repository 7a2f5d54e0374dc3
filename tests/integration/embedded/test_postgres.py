"""The embedded PostgreSQL: made once, ends with its parent, comes back after any end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import answers, free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.process import wait_until
from infra.embedded.replica import replica_of
from infra.embedded.server import running

WAIT_SECONDS_MAX = 20.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with ephemeral_folder() as made:
        yield made


@pytest.fixture
def server(folder: Path) -> PostgresServer:
    return PostgresServer(server_folder(folder, "postgres"), free_port(), database="kept")


def write(url: str, value: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value integer)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])


def read(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def test_what_was_written_is_there_after_an_orderly_restart_and_after_a_crash(server: PostgresServer) -> None:
    with running(server) as postgres:
        write(postgres.url, 1)
        postgres.stop()
        postgres.start()
        write(postgres.url, 2)
        postgres.kill()
        postgres.start()
        assert read(postgres.url) == [1, 2]


def test_it_is_durable_unless_it_is_for_tests(server: PostgresServer) -> None:
    with running(server) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_it_asks_for_its_password_which_nobody_else_can_read(server: PostgresServer) -> None:
    with running(server) as postgres:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(postgres.url.replace(server.password_file.read_text(), "wrong"))
        assert server.password_file.stat().st_mode & 0o077 == 0


def test_a_stale_process_id_file_of_a_stranger_does_not_stop_it(server: PostgresServer) -> None:
    with running(server) as postgres:
        write(postgres.url, 1)
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data}\n")
    with running(server) as postgres:
        assert read(postgres.url) == [1]


PARENT = """
import sys, time
from pathlib import Path
from infra.embedded.postgres import PostgresServer
from infra.embedded.server import RunningServer
RunningServer(PostgresServer(Path(sys.argv[1]), int(sys.argv[2]), database="kept")).start()
print("started", flush=True)
time.sleep(600)
"""


def test_it_ends_when_its_parent_is_killed_and_the_next_parent_finds_the_data(server: PostgresServer) -> None:
    command = [sys.executable, "-c", PARENT, str(server.folder), str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        write(server.url, 1)
        parent.send_signal(signal.SIGKILL)
    with running(server) as postgres:
        assert read(postgres.url) == [1]
    assert wait_until(lambda: not answers(server.port), WAIT_SECONDS_MAX)


def test_an_orphan_that_still_runs_is_ended_before_the_data_is_used_again(server: PostgresServer) -> None:
    with running(server) as postgres:
        write(postgres.url, 1)
        with running(PostgresServer(server.folder, free_port(), database="kept")) as heir:
            assert postgres.process.wait(WAIT_SECONDS_MAX) is not None
            assert read(heir.url) == [1]


def test_a_replica_follows_its_primary(server: PostgresServer, folder: Path) -> None:
    with running(server) as primary, replica_of(server, server_folder(folder, "replica")) as replica:
        write(primary.url, 1)

        def arrived() -> bool:
            try:
                return read(replica.url) == [1]
            except psycopg.errors.UndefinedTable:
                return False

        assert wait_until(arrived, WAIT_SECONDS_MAX)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            write(replica.url, 2)
