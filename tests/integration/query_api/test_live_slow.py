"""F49: clients that do not keep up cost the others nothing, and miss nothing themselves."""

import asyncio
import os
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY

from infra.auth import issue_development_token
from tests.integration.query_api.live import Transcript, served, stream
from tests.integration.query_api.readside import TENANT, ReadSideUnderTest

ACCOUNTS = 150
NEVER_READ, READERS, ROUNDS = 500, 2, 12
SUBJECTS = 5
SMALL = 4_096
GROWTH_BYTES_MAX = 100_000_000
"""Of this process, clients and all; what was sent to those who never read, and is not theirs alone, is 200 MB."""


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_streams() -> float:
    return REGISTRY.get_sample_value("everfold_live_streams") or 0.0


async def deposit_everywhere(side: ReadSideUnderTest, cents: int = 1) -> None:
    for number in range(ACCOUNTS):
        await side.deposit(f"A{number}", cents)
    await side.apply(to_cache=False)


def never_reading(url: str, token: str) -> socket.socket:
    place = urlsplit(url)
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    lazy.connect((place.hostname, place.port))
    lazy.sendall(
        f"GET /v1/live?views=accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    return lazy


async def read_round(readers: Sequence[Transcript], balance_cents: int) -> float:
    """Read until every reader knows of every account's new balance; return how long that took."""
    began = time.monotonic()
    for reader in readers:
        seen: set[str] = set()
        while len(seen) < ACCOUNTS:
            message = await reader.next()
            assert message.event == "change"
            if message.document["balance_cents"] == balance_cents:
                seen.add(message.key)
    return time.monotonic() - began


async def test_f49_who_never_reads_is_dropped_and_others_are_told_meanwhile(
    side: ReadSideUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query_api.live.stream.WRITE_SECONDS_MAX", 2.0)
    monkeypatch.setattr("query_api.live.stream.WAITING_BYTES_MAX", 64 * 1024)
    for number in range(ACCOUNTS):
        await side.open_account(f"A{number}")
    await side.apply(to_cache=False)
    token, *tokens = (
        issue_development_token(side.settings, tenant=TENANT, roles=["viewer"], subject=f"s{number}")
        for number in range(SUBJECTS + 1)
    )
    before, memory = open_streams(), memory_bytes()
    async with (
        served(side.api, send_buffer=SMALL) as url,
        stream(url, token) as one,
        stream(url, token) as two,
    ):
        for reader in (one, two):
            await reader.until("snapshot-end")
        lazy = await asyncio.to_thread(
            lambda: [never_reading(url, tokens[number % SUBJECTS]) for number in range(NEVER_READ)]
        )
        async with asyncio.timeout(30):
            while open_streams() < before + NEVER_READ + READERS:
                await asyncio.sleep(0.05)
        for number in range(1, ROUNDS + 1):
            await deposit_everywhere(side)
            assert await read_round([one, two], 100 + number) < 10
            assert memory_bytes() - memory < GROWTH_BYTES_MAX
        async with asyncio.timeout(30):
            while open_streams() > before + READERS:
                await asyncio.sleep(0.05)
        said = await asyncio.to_thread(read_all, lazy[0])
        marks = re.findall(rb"id: (\S+)\n(?:data: [^\n]*\n)?\n", said)
        known = set(re.findall(rb'"key":"(A\d+)","version":(\d+)', said[: said.rfind(b"\n\n")]))
        async with stream(url, token, **({"last_event_id": marks[-1].decode()} if marks else {})) as again:
            told: dict[str, int] = {}
            while set(told.values()) != {100 + ROUNDS} or len(told) < ACCOUNTS:
                message = await again.next()
                if message.event in ("change", "snapshot"):
                    assert (message.key.encode(), b"%d" % message.data["version"]) not in known or not marks
                    told[message.key] = message.document["balance_cents"]
        for one_lazy in lazy:
            one_lazy.close()


def read_all(lazy: socket.socket) -> bytes:
    """Return all that had reached a socket before it was cut."""
    lazy.settimeout(10)
    parts = []
    try:
        while part := lazy.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return re.sub(rb"\r\n[0-9a-f]+\r\n", b"", b"".join(parts))


async def test_a_burst_that_is_more_than_may_wait_is_told_at_the_clients_pace(
    side: ReadSideUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query_api.live.stream.WAITING_BYTES_MAX", 10_000)
    for number in range(ACCOUNTS):
        await side.open_account(f"A{number}")
    await side.apply(to_cache=False)
    token = side.token(TENANT, ["viewer"])
    async with served(side.api) as url, stream(url, token) as told, stream(url, token) as other:
        for one in (told, other):
            await one.until("snapshot-end")
        for number in range(1, 4):
            await deposit_everywhere(side)
            for one in (told, other):
                messages = [await one.next() for _ in range(ACCOUNTS)]
                assert {m.key for m in messages} == {f"A{n}" for n in range(ACCOUNTS)}
                assert {m.document["balance_cents"] for m in messages} == {100 + number}
        assert await told.says_nothing()
