"""Writers that race on one partition: positions are gapless, in commit order, and a follower misses nothing. # T01"""

import asyncio
import random

from event_store.integrity import verify_log
from event_store.log import Answer, TagTail
from event_store.postgres import PostgresLog
from schemas.envelope import BEGINNING, RecordedEvent
from tests.contract.log.appends import TENANT, append, key, tagged, unless
from tests.services import PARTITIONS

WRITERS, BATCHES, STREAMS = 4, 40, 6
SEED = 20_261
RIVALS, ROUNDS = 16, 1_000


async def test_racing_writers_leave_no_gap_and_a_follower_sees_every_event_once(store_url: str) -> None:
    """F07, F11: each writer believes what it last saw, so it is often overtaken, and then looks again."""
    done = asyncio.Event()
    chance = random.Random(SEED)

    async def write(writer: int) -> int:
        written = 0
        async with PostgresLog({range(PARTITIONS): store_url}) as log:
            versions = [0] * STREAMS
            for number in range(BATCHES):
                batch = []
                for part in range(chance.randint(1, 5)):
                    stream = chance.randrange(STREAMS)
                    batch.append(
                        append(
                            f"a/{stream}",
                            versions[stream],
                            chance.randint(1, 3),
                            key=key(f"{writer}-{number}-{part}"),
                        )
                    )
                    versions[stream] += len(batch[-1].events)
                for wish, outcome in zip(batch, await log.append_batch(0, batch), strict=True):
                    written += outcome.events
                    if outcome.answer is not Answer.APPENDED:
                        versions[int(wish.stream[2:])] = outcome.version
        return written

    async def follow() -> list[RecordedEvent]:
        seen: list[RecordedEvent] = []
        after = BEGINNING
        async with PostgresLog({range(PARTITIONS): store_url}) as log:
            while True:
                was_done = done.is_set()
                page = await log.read_page(0, after, events_max=7)
                seen, after = [*seen, *page.events], page.end
                if was_done and not page.events:
                    return seen

    follower = asyncio.create_task(follow())
    written = sum(await asyncio.gather(*(write(writer) for writer in range(WRITERS))))
    done.set()
    seen = await follower
    assert [event.position for event in seen] == list(range(1, written + 1)), f"seed {SEED}"
    assert len({event.id for event in seen}) == written
    for stream in {event.stream for event in seen}:
        versions = [event.version for event in seen if event.stream == stream]
        assert versions == list(range(1, len(versions) + 1))
    async with PostgresLog({range(PARTITIONS): store_url}) as log:
        report = await verify_log(log, [0])
        assert (report.ok, report.events) == (True, written)


async def test_of_racing_appends_at_one_version_exactly_one_wins(store_url: str) -> None:
    logs = [PostgresLog({range(PARTITIONS): store_url}) for _ in range(WRITERS)]
    try:
        for version in range(10):
            outcomes = await asyncio.gather(
                *(log.append_batch(0, [append("a/1", version), append(f"own/{version}-{n}", 0)])
                  for n, log in enumerate(logs))
            )  # fmt: skip
            assert sorted(answers[0].answer for answers in outcomes) == [
                "appended",
                *["conflict"] * (WRITERS - 1),
            ]
            assert {answers[1].answer for answers in outcomes} == {"appended"}
    finally:
        for log in logs:
            await log.close()


async def test_of_sixteen_writers_that_race_for_one_condition_exactly_one_wins_a_thousand_times(
    store_url: str,
) -> None:
    """F11: some of them send two rivals in one batch."""
    logs = [PostgresLog({range(PARTITIONS): store_url}) for _ in range(RIVALS)]
    known = 0
    try:
        for round_ in range(ROUNDS):
            condition = [unless("seat", "free", after=known)]
            batches = [
                [
                    tagged(f"own/{round_}-{n}-{part}", "seat", "free", conditions=condition)
                    for part in range(1 + n % 2)
                ]
                for n in range(RIVALS)
            ]
            outcomes = await asyncio.gather(
                *(log.append_batch(0, batch) for log, batch in zip(logs, batches, strict=True))
            )
            flat = [outcome for answers in outcomes for outcome in answers]
            assert sorted(outcome.answer for outcome in flat) == [
                Answer.APPENDED,
                *[Answer.CONFLICT] * (len(flat) - 1),
            ], f"round {round_}"
            known += 1
            assert {outcome.position for outcome in flat} == {known}
        (seats,), head = await logs[0].read_tagged(0, [TagTail(TENANT, "seat")])
        assert (len(seats), head.position) == (ROUNDS, ROUNDS)
        assert (await verify_log(logs[0], [0])).ok
    finally:
        for log in logs:
            await log.close()


async def test_one_key_that_races_takes_effect_once(store_url: str) -> None:
    """F08"""
    logs = [PostgresLog({range(PARTITIONS): store_url}) for _ in range(WRITERS)]
    try:
        outcomes = await asyncio.gather(
            *(log.append_batch(0, [append(f"a/{n}", 0, key=key("k")) for n in range(3)]) for log in logs)
        )
        flat = [outcome for answers in outcomes for outcome in answers]
        assert [outcome.answer for outcome in flat].count(Answer.APPENDED) == 1
        assert len({outcome[1:] for outcome in flat}) == 1
        assert (await logs[0].heads())[0].position == 1
    finally:
        for log in logs:
            await log.close()
