"""A database is restored to before a person was erased: nobody reads the person again. # F56 S48"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from event_store.erasures import Erasures
from event_store.log_check import LogCheck
from event_store.migrate import migrate
from event_store.postgres import PostgresLog
from event_store.recovery import recover
from event_store.subject_keys import subject_of
from infra.embedded.folders import ephemeral_folder, server_folder
from infra.embedded.server import RunningServer
from infra.settings import load_settings
from projectors.erasure import Office
from projectors.read_side import open_read_side
from projectors.recovering import ErasingAgain
from projectors.verify import verify_projections
from schemas.messages import ERASED
from tests.acceptance.scan import places_of
from tests.integration.lost_tail.losing import NAMESPACE, Losable, System
from tests.integration.lost_tail.test_recover import commands
from tests.services import PARTITIONS

pytestmark = pytest.mark.timeout(400)
TENANT, CUSTOMER, CANARY = "acme", "C1", "canary-4711"


@pytest.fixture
def losable(postgres: RunningServer) -> Iterator[Losable]:
    """A migrated log on a server that can be put back."""
    migrate(postgres.url, NAMESPACE, range(PARTITIONS))
    with ephemeral_folder() as folder:
        yield Losable(postgres, server_folder(folder, "other"))


@pytest.fixture
def system(losable: Losable, tmp_path: Path, redis_url: str) -> System:
    """A system of the reference domain, with a folder for what is kept outside of its databases."""
    heads = tmp_path / "heads"
    heads.mkdir()
    return System(
        load_settings(
            _env_file=None, store_url=losable.server.url, read_url=losable.server.url, data_dir=tmp_path,
            domains="supply", broker_url="log", redis_url=redis_url, heads=heads, erasures_dir=heads,
        )
    )  # fmt: skip


async def place(http: httpx2.AsyncClient) -> None:
    """Place an order with a contact."""
    price = {"amount": 100, "currency": "EUR"}
    order = {
        "customer_id": CUSTOMER,
        "site_id": "S1",
        "lines": [{"line_no": 1, "item_id": "I1", "quantity": 1, "unit_price": price}],
        "contact": CANARY,
    }
    for path, body in (
        ("sites/S1/register", {"name": "Main", "time_zone": "UTC"}),
        ("items/I1/register", {"name": "Mask", "category": "ppe"}),
        ("orders/O1/place", order),
    ):
        answer = await http.post(f"/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text


async def contact(system: System) -> str:
    """Return the order's contact as the log is read today."""
    async with open_read_side(system.settings, name="test") as side:
        events = [event async for event in side.opened.read_stream(TENANT, "orders/O1")]
        (placed,) = side.registry.decode(events[0].type, events[0].schema_version, events[0].data)
    return str(placed.contact)  # type: ignore[attr-defined]  # it is an OrderPlaced


async def export(system: System) -> None:
    async with PostgresLog(system.settings.store_urls, NAMESPACE) as log:
        check = LogCheck.planned(system.settings, against=None, since=None, export=system.settings.heads)
        await check.run(system.settings, log)


async def test_who_was_erased_after_the_backup_is_erased_again_before_anything_is_served(
    losable: Losable, system: System
) -> None:
    async with commands(system.settings, role="admin") as http, system.projector():
        await place(http)
        await system.followed()
    await export(system)
    assert await contact(system) == CANARY
    await asyncio.to_thread(losable.copy)
    async with open_read_side(system.settings, name="erase") as side:
        erasures, who = Erasures(side.log.servers), subject_of(TENANT, CUSTOMER)
        await erasures.begin(who, "test", "asked us to")
        (erasure,) = await erasures.of(who)
        await Office(side, erasures, late_seconds=0.1).carry_out(erasure)
    assert await contact(system) == ERASED

    await asyncio.to_thread(losable.restore_copy)
    assert await contact(system) == CANARY, "the copy has the key, so this is what has to be undone"
    async with commands(system.settings, role="admin") as http:
        refused = await http.post("/v1/items/I2/register", json={"name": "Glove", "category": "ppe"})
        assert (refused.status_code, refused.json()["finding"]) == (503, "lost-erasure")

    assert system.settings.heads is not None
    async with open_read_side(system.settings, name="recover") as side:
        report = await recover(
            system.settings, side.log, side.pool, system.settings.heads,
            reason="disk lost", steps={"erasures": ErasingAgain(late_seconds=0.1)},
        )  # fmt: skip
    assert report["steps"]["erasures"] | {"files": 1} == {"files": 1, "erased": 1, "to_be_scrubbed": 0}
    assert await contact(system) == ERASED
    async with commands(system.settings, role="admin") as http, system.projector():
        accepted = await http.post("/v1/items/I2/register", json={"name": "Glove", "category": "ppe"})
        assert accepted.status_code == 200
        await system.followed()
    async with open_read_side(system.settings, name="verify") as side:
        assert all(one.equal for one in await verify_projections(side))
    assert await places_of(system.settings, CANARY) == set()
