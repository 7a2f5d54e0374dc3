"""The fixtures that all other tests stand on."""

import psycopg
import redis

from infra.embedded.process import wait_until


def test_a_test_gets_a_database_of_its_own(database: str) -> None:
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_a_test_gets_an_empty_redis_of_its_own(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_a_test_gets_a_primary_with_a_replica(replicated_database: tuple[str, str]) -> None:
    primary, replica = replicated_database
    with psycopg.connect(primary) as connection:
        connection.execute("CREATE TABLE written (value integer)")
    assert wait_until(lambda: "written" in tables_of(replica), seconds_max=20)


def tables_of(url: str) -> set[str]:
    try:
        with psycopg.connect(url) as connection:
            return {row[0] for row in connection.execute("SELECT tablename FROM pg_tables")}
    except psycopg.OperationalError:  # the database itself has not arrived
        return set()


def test_a_test_gets_a_migrated_database_of_its_own(store_url: str) -> None:
    with psycopg.connect(store_url) as connection:
        schemas = {row[0] for row in connection.execute("SELECT DISTINCT schemaname FROM pg_tables")}
    assert "everfold" in schemas
