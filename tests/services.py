"""
Real services for tests, as fixtures; `conftest.py` makes them known everywhere.

PostgreSQL and Valkey are our own embedded ones, one of each for a test process. A test gets a fresh database,
cloned from one that is migrated already, which takes some 20 ms. To use others, name them:
EVERFOLD_TEST_STORE_URL, EVERFOLD_TEST_REDIS_URL, EVERFOLD_TEST_BROKER_URL. None is skipped.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from event_store.migrate import migrate
from infra.database_roles import builder_of
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.replica import replica_of
from infra.embedded.server import RunningServer, running
from infra.embedded.valkey import ValkeyServer
from tests.broker import broker, own_broker

REDIS_DATABASES = 256
NAMESPACE = "everfold"
PARTITIONS = 8
SMALL_RANGE_EVENTS = 8
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """A folder for the servers of this test process."""
    with ephemeral_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def embedded_postgres(services_folder: Path) -> Iterator[PostgresServer]:
    """The PostgreSQL of this test process, which keeps nothing after a crash and is fast for it."""
    server = PostgresServer(server_folder(services_folder, "postgres"), free_port(), fast=True)
    with running(server):
        yield server


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """A PostgreSQL server's maintenance database, as superuser."""
    given = os.environ.get("EVERFOLD_TEST_STORE_URL")
    return given or request.getfixturevalue("embedded_postgres").url


@pytest.fixture(scope="module")
def replica_port(embedded_postgres: PostgresServer, services_folder: Path) -> Iterator[int]:
    """A streaming replica of the embedded PostgreSQL; as long as it runs, it repeats all that any test does there."""
    with replica_of(
        embedded_postgres, server_folder(services_folder, f"replica-{next(_numbers)}")
    ) as replica:
        assert isinstance(replica.server, PostgresServer)
        yield replica.server.port


@pytest.fixture
def replicated_database(embedded_postgres: PostgresServer, replica_port: int) -> Iterator[tuple[str, str]]:
    """An empty database of the test's own on a primary, and the same one on its replica."""
    url = create_database(embedded_postgres.url)
    yield url, url.replace(f":{embedded_postgres.port}/", f":{replica_port}/")
    drop_database(embedded_postgres.url, url)


@pytest.fixture(scope="session")
def redis_server_url(services_folder: Path) -> Iterator[str]:
    """A Valkey server with many databases."""
    given = os.environ.get("EVERFOLD_TEST_REDIS_URL")
    if given:
        yield given
        return
    with running(ValkeyServer(services_folder / "valkey", free_port(), databases=REDIS_DATABASES)) as server:
        yield server.url


def url_of_database(url: str, database: str) -> str:
    """Return a server's address with another database."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def new_name() -> str:
    """Return a database name that no other test, test process or run uses."""
    return f"everfold_test_{os.getpid()}_{next(_numbers)}"


def create_database(url: str, *, template: str = "template0") -> str:
    """Make a database and return its address."""
    name = new_name()
    statement = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}")
    strategy = Identifier("wal_log" if template == "template0" else "file_copy")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.format(Identifier(name), Identifier(template), strategy))
        if template != "template0":  # a copy has everything but what was granted on the database itself
            builder = Identifier(builder_of(NAMESPACE))
            connection.execute(SQL("GRANT CREATE ON DATABASE {} TO {}").format(Identifier(name), builder))
    return url_of_database(url, name)


def drop_database(url: str, database_url: str) -> None:
    """Drop a database with whoever is still connected to it."""
    name = urlsplit(database_url).path.removeprefix("/")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """A database with the newest layout, of namespace `everfold` with its 8 partitions; never connect to it."""
    url = create_database(postgres_url)
    migrate(url, NAMESPACE, range(PARTITIONS))
    yield urlsplit(url).path.removeprefix("/")
    drop_database(postgres_url, url)


@pytest.fixture
def store_url(postgres_url: str, template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    url = create_database(postgres_url, template=template)
    yield url
    drop_database(postgres_url, url)


@pytest.fixture(scope="session")
def small_ranges(postgres_url: str) -> Iterator[str]:
    """A database with the newest layout and ranges of a few positions, to be cloned."""
    url = create_database(postgres_url)
    migrate(url, NAMESPACE, range(PARTITIONS), range_events=SMALL_RANGE_EVENTS)
    yield urlsplit(url).path.removeprefix("/")
    drop_database(postgres_url, url)


@pytest.fixture
def small_ranges_url(postgres_url: str, small_ranges: str) -> Iterator[str]:
    """A database of the test's own with ranges of a few positions."""
    url = create_database(postgres_url, template=small_ranges)
    yield url
    drop_database(postgres_url, url)


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """An empty database of the test's own."""
    url = create_database(postgres_url)
    yield url
    drop_database(postgres_url, url)


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis database of the test's own."""
    number = next(_numbers) % REDIS_DATABASES
    url = urlsplit(redis_server_url)._replace(path=f"/{number}").geturl()
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def broker_url(services_folder: Path) -> Iterator[str]:
    """A RabbitMQ that is shared: use a namespace of the test's own."""
    with broker(services_folder / "rabbitmq") as url:
        yield url


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RunningServer]:
    """A RabbitMQ of the module's own, to be stopped, killed and started; takes some seconds."""
    with ephemeral_folder() as folder, own_broker(folder / "rabbitmq") as server:
        yield server


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RunningServer]:
    """A Valkey of the test's own, to be stopped, killed and started."""
    with running(ValkeyServer(tmp_path / "valkey", free_port())) as server:
        yield server


@pytest.fixture
def postgres() -> Iterator[RunningServer]:
    """A durable PostgreSQL of the test's own, to be stopped, killed and started; takes a second."""
    with ephemeral_folder() as folder:
        server = PostgresServer(server_folder(folder, "postgres"), free_port(), database="everfold")
        with running(server) as handle:
            yield handle
