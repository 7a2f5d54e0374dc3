"""The embedded Valkey: bounded, forgetful, and gone with its parent."""

from pathlib import Path

import redis

from infra.embedded.ports import answers, free_port
from infra.embedded.server import running
from infra.embedded.valkey import ValkeyServer


def test_it_is_a_bounded_cache_that_keeps_nothing_on_disk(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey", free_port())
    with running(server) as valkey, redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(256 * 1024 * 1024)}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lfu"}
        client.set("key", "value")
        valkey.stop()
        valkey.start()
        assert client.get("key") is None
    assert not answers(server.port)
    assert sorted(path.name for path in server.folder.iterdir()) == ["valkey.log"]
