"""RabbitMQ for tests and for `everfold up`: installed or unpacked, on its own ports."""

import os
import shutil
from pathlib import Path

import aio_pika
import pytest

from infra.embedded import debian
from infra.embedded.debian import rabbitmq_home, rabbitmq_root
from infra.embedded.errors import ServerMissing
from infra.embedded.ports import answers
from infra.embedded.rabbitmq import lets_in
from infra.embedded.server import RunningServer

TIMEOUT_SECONDS = 10


async def publish(url: str, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(url, timeout=TIMEOUT_SECONDS) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue, mandatory=True, timeout=TIMEOUT_SECONDS)


async def fetch(url: str, queue: str) -> bytes:
    async with await aio_pika.connect(url, timeout=TIMEOUT_SECONDS) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        message = await declared.get(timeout=TIMEOUT_SECONDS)
        assert message is not None
        await message.ack()
        return message.body


async def test_the_shared_broker_confirms_and_delivers(broker_url: str) -> None:
    queue = f"everfold_test_{os.getpid()}_delivers"
    await publish(broker_url, queue, b"news")
    assert await fetch(broker_url, queue) == b"news"
    async with await aio_pika.connect(broker_url) as connection:
        await (await connection.channel()).queue_delete(queue)


async def test_a_broker_of_our_own_keeps_what_it_confirmed_when_it_is_restarted(
    rabbitmq: RunningServer,
) -> None:
    await publish(rabbitmq.url, "kept", b"news")
    rabbitmq.stop()
    assert not answers(int(rabbitmq.url.rsplit(":", 1)[1].strip("/")))
    rabbitmq.start()
    assert await fetch(rabbitmq.url, "kept") == b"news"


def test_a_broker_of_our_own_comes_back_after_it_was_killed(rabbitmq: RunningServer) -> None:
    rabbitmq.kill()
    assert not lets_in(rabbitmq.url)
    rabbitmq.stop()
    rabbitmq.start()
    assert lets_in(rabbitmq.url)


def test_a_stranger_does_not_get_in(rabbitmq: RunningServer) -> None:
    assert not lets_in(rabbitmq.url.replace("guest:guest", "guest:wrong"))


def test_debian_packages_are_unpacked_without_touching_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = debian._home_of
    monkeypatch.setattr(debian, "_home_of", lambda root: None if root == Path("/") else installed(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    if shutil.which("apt-get") is None:
        with pytest.raises(ServerMissing):
            rabbitmq_root(print)
        return
    root = rabbitmq_root(print)

    assert root == tmp_path / "everfold" / "rabbitmq"
    assert (rabbitmq_home(root) / "sbin" / "rabbitmq-server").exists()
    assert f"ROOTDIR={root}/usr/lib/erlang" in (root / "usr/lib/erlang/bin/erl").read_text()


def test_where_packages_cannot_be_had_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "_home_of", lambda root: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ServerMissing) as caught:
        rabbitmq_root(print)

    assert "EVERFOLD_TEST_BROKER_URL" in str(caught.value)
