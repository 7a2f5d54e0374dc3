"""Generation swaps under reads: no half-built table, no way back, and no mixing of two builds."""

import asyncio

from tests.integration.query_api.readside import ReadSideUnderTest


async def test_reads_go_on_through_swaps_and_never_show_less_than_was_seen(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 0)
    await side.open_account("A-2", 50)
    await side.apply()
    stop = asyncio.Event()
    seen: list[int] = []

    async def read() -> None:
        highest, token = 0, ""
        while not stop.is_set():
            headers = {"everfold-position": token} if token else {}
            one = await side.client.get("/v1/accounts/A-1", headers=headers)
            assert one.status_code == 200, one.text
            token = one.headers["everfold-position"]
            many = await side.client.get("/v1/accounts?sort=account_id", headers={"everfold-position": token})
            assert many.status_code == 200, many.text
            items = many.json()["items"]
            assert [item["account_id"] for item in items] == ["A-1", "A-2"]
            assert one.json()["balance_cents"] >= highest
            assert items[0]["balance_cents"] >= one.json()["balance_cents"]
            highest, token = items[0]["balance_cents"], many.headers["everfold-position"]
            seen.append(highest)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for generation in range(2, 7):
        await side.open_generation(generation)
        await asyncio.sleep(0.02)
        await side.deposit("A-1")
        await side.apply(generation=generation - 1)
        await side.apply(generation=generation, to_cache=False)
        await side.swap(generation)
        await side.deposit("A-1")
        await side.apply(generation=generation)
        if generation > 2:
            await side.drop_generation(generation - 2)
        await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        while not seen or seen[-1] < 10:
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*readers)

    assert max(seen) == 10


async def test_a_dropped_generation_is_noticed_by_the_read_itself(side: ReadSideUnderTest) -> None:
    await side.open_account("A-1", 5)
    await side.apply()
    assert (await side.client.get("/v1/wealth")).json() == {"accounts": 1, "cents": 5}
    await side.open_generation(2)
    token = await side.deposit("A-1")
    await side.apply(generation=2, notify=False)
    await side.swap(2)
    await side.drop_generation(1)

    response = await side.client.get("/v1/wealth", headers={"everfold-position": token})

    assert response.json() == {"accounts": 1, "cents": 6}


async def test_before_the_migration_there_is_no_read_model_either(side: ReadSideUnderTest) -> None:
    await side.pool.execute("ALTER TABLE everfold.projections RENAME TO projections_to_come")
    await side.api.parts.side.refresh()

    before = await side.client.get("/v1/accounts")
    await side.pool.execute("ALTER TABLE everfold.projections_to_come RENAME TO projections")
    after = await side.client.get("/v1/accounts")

    assert (before.status_code, after.status_code) == (503, 200)


async def test_a_read_model_that_was_never_built_is_unavailable(side: ReadSideUnderTest) -> None:
    await side.pool.execute("DELETE FROM everfold.projections")
    await side.api.parts.side.refresh()

    response = await side.client.get("/v1/accounts/A-1")

    assert (response.status_code, response.json()["type"]) == (503, "/problems/read-model-missing")
    assert response.headers["retry-after"] == "1"
