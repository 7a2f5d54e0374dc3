"""Erasures outlive the database: what a restore brings back is destroyed again; and keys move to another master key."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from event_store.connections import StoreConnection
from event_store.erasures import FILE_NAME, Erasure, Erasures, apply_erasures, read_erasures, write_down
from event_store.key_ring import KeyRing
from event_store.migrate import LogNotEmpty, migrate
from event_store.rewrapping import rewrap_all
from event_store.sealed_log import SealedLog
from event_store.sealing import Sealer
from event_store.subject_keys import subject_of
from infra.master_key_file import DEVELOPMENT_NAME, FileMasterKeys, new_line
from schemas.errors import MalformedRequest
from schemas.messages import ERASED
from tests.contract.log.appends import TENANT
from tests.integration.event_store.sealing import CANARY, REGISTRY, Process, joined, process

MEMBER = subject_of(TENANT, "m1")
KEYS = (
    "INSERT INTO everfold.subject_keys SELECT * FROM json_populate_recordset(NULL::everfold.subject_keys, $1)"
)


async def erase(one: Process, folder: Path) -> tuple[Erasures, Erasure]:
    erasures = Erasures(one.stored.servers)
    await erasures.begin(MEMBER, "ann", "asked to")
    (erasure,) = await erasures.all(ended=False)
    write_down(folder, erasure)
    await erasures.note(erasure, "swept", {}, is_last=True)
    return erasures, erasure


async def restore(admin: StoreConnection, keys: Any) -> None:
    """Have the tables of keys be what a backup from before the erasure holds."""
    await admin.execute(
        "TRUNCATE everfold.subject_keys, everfold.erasures; UPDATE everfold.key_epoch SET epoch = 0"
    )
    await admin.execute(KEYS, keys)


async def keys_of(admin: StoreConnection) -> Any:
    return await admin.fetchval("SELECT coalesce(json_agg(k), '[]')::text FROM everfold.subject_keys AS k")


async def test_a_restored_database_is_erased_again_from_the_file(
    store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1"), joined("m2"))
        backup = await keys_of(admin)
        erasures, erasure = await erase(one, tmp_path)
        assert [read.line() for read in read_erasures(tmp_path / FILE_NAME)] == [erasure.line()]
        assert b"m1" not in (tmp_path / FILE_NAME).read_bytes()
    await restore(admin, backup)
    async with process(store_url, tmp_path) as one:
        assert await one.phones("m1") == [CANARY]
        erasures = Erasures(one.stored.servers)
        (again,) = await apply_erasures(erasures, tmp_path / FILE_NAME)
        assert (again.subject, again.generation, again.reason) == (MEMBER, 1, "asked to")
        assert again.ended_at is None
        (interrupted,) = await apply_erasures(erasures, tmp_path / FILE_NAME)
        assert (interrupted.subject, interrupted.erased_at) == (MEMBER, again.erased_at)
        await erasures.note(again, "swept", {}, is_last=True)
        assert await apply_erasures(erasures, tmp_path / FILE_NAME) == []
    async with process(store_url, tmp_path) as one:
        assert await one.phones("m1") == [ERASED]
        assert await one.phones("m2") == [CANARY]


async def test_a_database_from_before_the_key_gets_no_key_of_that_generation(
    store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1"))
        await erase(one, tmp_path)
    await restore(admin, "[]")
    async with process(store_url, tmp_path) as one:
        await apply_erasures(Erasures(one.stored.servers), tmp_path / FILE_NAME)
        await one.append(joined("m1", "new"))
        assert await one.phones("m1") == [ERASED, "new"]
        assert b'"$sealed":"2.' in (await one.bytes_of("m1"))[-1].data


async def test_a_key_that_was_made_after_the_erasure_lives_on(
    store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1", "old"))
        await erase(one, tmp_path)
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1", "new"))
        assert await apply_erasures(Erasures(one.stored.servers), tmp_path / FILE_NAME) == []
        assert await one.phones("m1") == [ERASED, "new"]


LINE = {
    "tenant": "acme",
    "subject": "00" * 32,
    "generation": 1,
    "erased_at": "2026-01-01T00:00:00Z",
    "actor": "a",
}


@pytest.mark.parametrize(
    "line", [b"{", b"[]", orjson.dumps(LINE), orjson.dumps(LINE | {"reason": "", "subject": "00"}),
             orjson.dumps(LINE | {"reason": "", "tenant": ""}), orjson.dumps(LINE | {"reason": "", "erased_at": "x"})],
    ids=["cut", "list", "member missing", "no hash", "the system's own", "no time"],
)  # fmt: skip
def test_a_line_that_is_no_erasure_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(orjson.dumps(LINE | {"reason": "r"}) + b"\n" + line)
    with pytest.raises(MalformedRequest, match="line 2"):
        list(read_erasures(path))


async def test_all_keys_move_to_another_master_key_and_no_event_changes(
    store_url: str, tmp_path: Path, admin: StoreConnection
) -> None:
    path = tmp_path / DEVELOPMENT_NAME
    async with process(store_url, tmp_path) as one:
        partition = await one.log.partition_of(TENANT)
        await one.log.append_batch(partition, [joined(f"m{number}") for number in range(700)])
        await one.ring.fingerprint_secret()
        await erase(one, tmp_path)
        before = await one.bytes_of("m2")
        path.write_text(f"{new_line()}\n{path.read_text()}")
        masters, told = FileMasterKeys(path), list[int]()
        assert await rewrap_all(one.keys, masters, "yearly", progress=told.append) == 700
        assert told == [500, 700]
        assert await rewrap_all(one.keys, masters, "again") == 0
        assert await one.keys.by_master() == {await masters.current(): 700}
        assert await one.bytes_of("m2") == before
        path.write_text(path.read_text().splitlines()[0])  # the old one may go now
        log = SealedLog(one.stored, Sealer(KeyRing(one.keys, FileMasterKeys(path))), REGISTRY)
        phones = [b'"phone":"canary' in event.data for event in await log.read_range(partition, 1, 700)]
        assert phones.count(True) == 699
        acts = await admin.fetch("SELECT act, reason FROM everfold.operator_acts ORDER BY id")
        assert [tuple(act) for act in acts] == [("keys rotate", "yearly"), ("keys rotate", "again")]


async def test_going_back_would_lose_keys_and_is_refused(store_url: str, tmp_path: Path) -> None:
    async with process(store_url, tmp_path) as one:
        await one.append(joined("m1"))
    with pytest.raises(LogNotEmpty):
        migrate(store_url, "everfold", range(8), to="r0009_guards")
