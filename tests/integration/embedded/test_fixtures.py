"""The fixtures that all other tests stand on."""

import psycopg
import redis


def test_a_test_gets_a_database_of_its_own(database: str) -> None:
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_a_test_gets_an_empty_redis_of_its_own(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
