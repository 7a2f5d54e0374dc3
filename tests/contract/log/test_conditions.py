"""Conditions: what an append requires of events that it finds by their tags, wherever they are. # F11"""

import asyncio
from dataclasses import replace

import pytest

from event_store.integrity import VerifiableLog, verify_log
from event_store.log import (
    CONDITION,
    CONDITION_ITEMS_MAX,
    EVENT_TAGS_MAX,
    TAG_CHARACTERS_MAX,
    Answer,
    Append,
    BatchTooLarge,
    Condition,
    EventLog,
    QueryItem,
    TagTail,
)
from schemas.errors import BadDefinition
from tests.contract.log.appends import EXISTS, TENANT, append, key, refusal, tagged, unless

APPENDED, CONFLICT, DUPLICATE = Answer.APPENDED, Answer.CONFLICT, Answer.DUPLICATE


async def test_an_append_whose_condition_holds_is_appended(log: EventLog) -> None:
    (outcome,) = await log.append_batch(0, [tagged("a/1", "x", conditions=[unless("x")])])
    assert (outcome.answer, outcome.position, outcome.conflict) == (APPENDED, 1, None)


async def test_a_matching_event_after_the_position_is_a_conflict_and_one_up_to_it_is_not(
    log: EventLog,
) -> None:
    await log.append_batch(0, [tagged("a/1", "x")])
    late, known = await log.append_batch(
        0, [append("a/2", 0), tagged("a/3", conditions=[unless("x", after=1)])]
    )
    assert (late.answer, known.answer) == (APPENDED, APPENDED)
    (outcome,) = await log.append_batch(0, [tagged("a/4", conditions=[unless("x", after=0)])])
    assert (outcome.answer, outcome.conflict, outcome.version) == (CONFLICT, CONDITION, 0)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (unless("x", "y"), False),
        (unless("x", "z"), True),
        (unless("x", types=["Counted"]), False),
        (unless("x", types=["Other", "Counted"]), False),
        (unless("x", types=["Other"]), True),
        (unless("z"), True),
        (Condition([QueryItem(["z"]), QueryItem(["y"], ["Counted"])], 0), False),
        (Condition([QueryItem(["z"]), QueryItem(["y"], ["Other"])], 0), True),
        (Condition([], 0), True),
    ],
)
async def test_tags_are_anded_types_are_ored_and_items_are_ored(
    log: EventLog, condition: Condition, holds: bool
) -> None:
    await log.append_batch(0, [tagged("a/1", "x", "y")])
    stored, refused = await log.append_batch(
        0,
        [tagged("a/2", conditions=[condition]), refusal("a/3", 0)],
    )
    assert stored.answer is (APPENDED if holds else CONFLICT)
    assert refused.answer is APPENDED


async def test_an_event_of_the_same_batch_counts(log: EventLog) -> None:
    same = [unless("x", after=0)]
    batch = [tagged(f"a/{n}", "x", conditions=same) for n in range(5)]
    outcomes = await log.append_batch(0, batch)
    assert [outcome.answer for outcome in outcomes] == [APPENDED, *[CONFLICT] * 4]
    assert [outcome.position for outcome in outcomes] == [1] * 5


async def test_an_event_that_was_not_appended_does_not_count(log: EventLog) -> None:
    outcomes = await log.append_batch(
        0,
        [
            tagged("a/1", "x", expected=3),
            tagged("a/2", "x", conditions=[unless("x")]),
            tagged("a/3", "x", conditions=[unless("x", types=["Other"]), unless("y")]),
            tagged("a/4", "y", conditions=[unless("x")]),
            tagged("a/5", "y"),
        ],
    )
    assert [outcome.answer for outcome in outcomes] == [CONFLICT, APPENDED, APPENDED, CONFLICT, APPENDED]


async def test_an_appends_own_events_do_not_bar_it(log: EventLog) -> None:
    one = tagged("a/1", "x", conditions=[unless("x")])
    (outcome,) = await log.append_batch(0, [one])
    assert outcome.answer is APPENDED


async def test_a_refusal_rests_on_its_conditions_too(log: EventLog) -> None:
    await log.append_batch(0, [tagged("a/1", "x")])
    stale = replace(refusal("a/2", 0), conditions=[unless("x")])
    sound = replace(refusal("a/2", 0), conditions=[unless("x", after=1)])
    outcomes = await log.append_batch(0, [stale, sound])
    assert [outcome.answer for outcome in outcomes] == [CONFLICT, APPENDED]


async def test_tags_and_conditions_stay_inside_a_tenant(log: EventLog) -> None:
    await log.append_batch(0, [tagged("a/1", "x", tenant="other")])
    outcomes = await log.append_batch(
        0, [tagged("a/1", "x", tenant="third"), tagged("a/1", "x", conditions=[unless("x")])]
    )
    assert [outcome.answer for outcome in outcomes] == [APPENDED, APPENDED]


async def test_a_bound_key_answers_before_the_condition_is_looked_at(log: EventLog) -> None:
    one = tagged("a/1", "x", conditions=[unless("x")], key=key("k"))
    (first,) = await log.append_batch(0, [one])
    (again,) = await log.append_batch(0, [one])
    assert again == first._replace(answer=DUPLICATE)


async def test_checks_and_conditions_hold_together_or_the_append_conflicts(log: EventLog) -> None:
    await log.append_batch(0, [tagged("a/1", "x")])
    outcomes = await log.append_batch(
        0,
        [
            tagged("a/9", expected=EXISTS, conditions=[unless("z")]),
            tagged("a/1", expected=1, conditions=[unless("x")]),
            tagged("a/1", expected=1, conditions=[unless("z")]),
        ],
    )
    assert [(outcome.answer, outcome.conflict) for outcome in outcomes] == [
        (CONFLICT, "a/9"),
        (CONFLICT, CONDITION),
        (CONFLICT, "a/1"),  # it builds on the one before it, which was not appended
    ]


async def test_events_are_read_by_their_tags(log: EventLog) -> None:
    await log.append_batch(
        0, [tagged("a/1", "x", "y"), tagged("a/2", "y"), tagged("b/1", "x", tenant="other")]
    )
    await log.append_batch(0, [append("a/3", 0), tagged("a/1", "y", "y")])
    (x, y, none, rest), head = await log.read_tagged(
        0, [TagTail(TENANT, "x"), TagTail(TENANT, "y"), TagTail(TENANT, "z"), TagTail(TENANT, "y", 2)]
    )
    assert [event.position for event in x] == [1]
    assert [(event.position, event.stream) for event in y] == [(1, "a/1"), (2, "a/2"), (5, "a/1")]
    assert (list(none), [event.position for event in rest]) == ([], [5])
    assert head == (await log.heads())[0]
    assert (await log.read_tagged(0, []))[1] == head


async def test_the_chain_covers_tags(log: EventLog) -> None:
    await log.append_batch(
        0, [tagged("a/1", "x", "b"), append("a/2", 0), tagged("a/3", "é, ü"), tagged("a/1", "x", expected=9)]
    )
    assert isinstance(log, VerifiableLog)
    report = await verify_log(log, log.partitions)
    assert (report.ok, report.events) == (True, 3)


@pytest.mark.parametrize("tag", ["", "a\x1eb", "a\nb", "\x00", "\ud800"])
async def test_a_tag_that_cannot_be_is_refused_and_nothing_is_written(log: EventLog, tag: str) -> None:
    for wrong in (tagged("a/2", tag), tagged("a/2", conditions=[unless(tag)])):
        with pytest.raises(BadDefinition, match="tag"):
            await log.append_batch(0, [append("a/1", 0), wrong])
    assert await log.head(0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        tagged("a/2", "x" * (TAG_CHARACTERS_MAX + 1)),
        tagged("a/2", *(f"t{n}" for n in range(EVENT_TAGS_MAX + 1))),
        tagged("a/2", conditions=[unless("x")] * (CONDITION_ITEMS_MAX + 1)),
    ],
)
async def test_tags_and_conditions_over_their_bounds_are_refused_and_nothing_is_written(
    log: EventLog, wrong: Append
) -> None:
    with pytest.raises(BatchTooLarge) as refused:
        await log.append_batch(0, [append("a/1", 0), wrong])
    assert refused.value.bound
    assert await log.head(0) is None


async def test_an_item_without_tags_is_refused_since_everything_would_have_to_be_read(log: EventLog) -> None:
    with pytest.raises(BadDefinition, match="every item needs a tag"):
        await log.append_batch(0, [tagged("a/1", conditions=[unless(types=["Counted"])])])


async def test_of_rival_appends_that_arrive_together_exactly_one_wins(log: EventLog) -> None:
    for round_ in range(20):
        outcomes = await asyncio.gather(
            *(
                log.append_batch(
                    0, [tagged(f"own/{round_}-{n}", f"x{round_}", conditions=[unless(f"x{round_}")])]
                )
                for n in range(4)
            )
        )
        assert sorted(answers[0].answer for answers in outcomes) == [APPENDED, *[CONFLICT] * 3]
