"""The pipeline over a log in memory: what a batch means, and what happens when the log says no."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from command_api.drafting import Draft
from command_api.pipeline import Pipeline
from command_api.settling import ATTEMPTS_MAX
from event_store.log import Append, Check, NewEvent
from event_store.memory import MemoryLog
from infra.domains import load_registry
from infra.problems import problem_of
from schemas.errors import OutcomeUnknown, StoreUnavailable, StreamsUnreadable
from tests.toy import DOMAIN, AccountOpened, Accounts, CloseAccount, DepositedV1, Transfer
from tests.toy.world import (
    OTHER_TENANT,
    RULES,
    TroubledLog,
    ask,
    deposit,
    events_of,
    open_account,
    pipeline_over,
    slug,
    withdraw,
)

UUID = "0199a1b2-0000-7000-8000-{:012d}"


async def deposit_elsewhere(log: MemoryLog, version: int, cents: int = 1, *, number: int = 1) -> None:
    """Append as another process would: past the pipeline's cache."""
    stream = "accounts/A"
    event = NewEvent(stream, UUID.format(number), "Deposited", 2, b'{"cents":%d,"source":"cash"}' % cents)
    append = Append("acme", stream, [Check(stream, version)], [event])
    (outcome,) = await MemoryLog.append_batch(log, 0, [append])
    assert outcome.answer == "appended"


async def test_an_accepted_command_answers_with_its_events_and_where_they_stand() -> None:
    log = MemoryLog()
    async with pipeline_over(log) as pipeline:
        answer = await pipeline.submit(open_account())
    (event,) = await events_of(log, "accounts/A")
    assert (answer.stream, answer.version, answer.replayed) == ("accounts/A", 1, False)
    assert [(e.id, e.type, e.version, e.data) for e in answer.events] == [
        (event.id, event.type, 1, event.data)
    ]
    assert answer.objects == [AccountOpened(owner="Ann")]
    assert answer.position is not None
    assert answer.position.position == event.position


async def test_later_commands_of_a_batch_see_the_events_of_earlier_ones_and_share_one_append() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        answers = await pipeline.submit_many(
            [open_account(), deposit(cents=5), withdraw(cents=3), withdraw(cents=3), withdraw(cents=2)]
        )
    assert [slug(answer) for answer in answers] == [None, None, None, "insufficient-funds", None]
    assert [answer.version for answer in answers] == [1, 2, 3, 3, 4]
    assert log.appends == [5]


async def test_a_refusal_is_checked_against_the_log_before_it_is_told() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account(), deposit(cents=1)])
        await deposit_elsewhere(log, 2, cents=10)
        answer = await pipeline.submit(withdraw(cents=11))
    assert answer.accepted
    assert answer.version == 4


async def test_commands_that_were_decided_on_what_was_not_appended_are_decided_again() -> None:  # F06
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account(), deposit(cents=5)])
        log.before_append = [lambda: deposit_elsewhere(log, 2, cents=100)]
        first, second, third = await pipeline.submit_many(
            [withdraw(cents=5), withdraw(cents=50), deposit(cents=1)]
        )
    assert (first.version, second.version, third.version) == (4, 5, 6)
    balance = [event.data for event in await events_of(log, "accounts/A")]
    assert len(balance) == 6


async def test_a_repeat_ahead_of_a_new_command_in_one_batch_leaves_no_trace_in_it() -> None:  # F06
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account(), deposit(cents=5, key="k1")])
        repeated, new = await pipeline.submit_many([deposit(cents=5, key="k1"), withdraw(cents=6)])
    assert repeated.replayed
    assert repeated.version == 2
    assert slug(new) == "insufficient-funds"
    assert len(await events_of(log, "accounts/A")) == 2


async def test_the_first_answer_comes_back_byte_for_byte_also_from_another_process() -> None:
    log = MemoryLog()
    async with pipeline_over(log) as one, pipeline_over(log) as other:
        await one.submit(open_account())
        first = await one.submit(deposit(key="k1"))
        await one.submit(deposit())
        again = await other.submit(deposit(key="k1"))
    assert again.replayed
    assert (again.version, again.position, again.events) == (
        first.version,
        first.position,
        list(first.events),
    )


async def test_a_command_that_changes_nothing_binds_its_key_and_is_answered_alike_later() -> None:
    log = MemoryLog()
    close = ask(CloseAccount(account_id="A"), key="close")
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account(), ask(CloseAccount(account_id="A"))])
        first = await pipeline.submit(close)
        await pipeline.submit(open_account())
        again = await pipeline.submit(close)
    assert (list(first.events), first.version) == ([], 2)
    assert again.replayed
    assert (again.version, again.position) == (first.version, first.position)
    assert len(await events_of(log, "accounts/A")) == 3


async def test_a_key_with_another_request_is_refused() -> None:
    async with pipeline_over(MemoryLog()) as pipeline:
        await pipeline.submit_many([open_account(), deposit(cents=1, key="k")])
        assert slug(await pipeline.submit(deposit(cents=2, key="k"))) == "idempotency-key-reused"
        assert (
            slug(await pipeline.submit(deposit(cents=1, key="k", expected_version=1)))
            == "idempotency-key-reused"
        )
        assert (await pipeline.submit(deposit(cents=1, key="k"))).replayed


async def test_keys_belong_to_a_tenant_and_subject() -> None:
    log = MemoryLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account(key="k"))
        answer = await pipeline.submit(open_account(key="k", by=OTHER_TENANT))
    assert answer.accepted
    assert not answer.replayed


async def test_a_refusal_binds_no_key() -> None:
    async with pipeline_over(MemoryLog()) as pipeline:
        await pipeline.submit(open_account())
        assert slug(await pipeline.submit(withdraw(cents=5, key="k"))) == "insufficient-funds"
        await pipeline.submit(deposit(cents=5))
        answer = await pipeline.submit(withdraw(cents=5, key="k"))
    assert answer.accepted
    assert not answer.replayed


async def test_the_key_is_looked_at_before_the_expected_version_and_that_before_the_rules() -> None:
    async with pipeline_over(MemoryLog()) as pipeline:
        await pipeline.submit(open_account(expected_version=0, key="k"))
        assert (await pipeline.submit(open_account(expected_version=0, key="k"))).replayed
        answer = await pipeline.submit(withdraw(cents=99, expected_version=7))
    assert slug(answer) == "version-mismatch"
    assert answer.error is not None
    assert answer.error.facts() == {"stream": "accounts/A", "current_version": 1}
    assert answer.position is not None


async def test_an_unchanged_stream_that_was_only_read_does_not_stand_in_the_way() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account("A"), open_account("B"), deposit("A", 10)])
        answer = await pipeline.submit(ask(Transfer(account_id="A", to_account_id="B", cents=4)))
    assert [(event.stream, event.version) for event in answer.events] == [
        ("accounts/A", 3),
        ("accounts/B", 2),
    ]


async def test_who_keeps_losing_is_told_so_after_a_bounded_number_of_attempts() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())

        log.before_append = [
            partial(deposit_elsewhere, log, version, number=version) for version in range(1, 2 * ATTEMPTS_MAX)
        ]
        answer = await pipeline.submit(deposit())
    assert slug(answer) == "concurrent-update"
    assert answer.error is not None
    assert answer.error.facts()["attempts"] == ATTEMPTS_MAX


async def test_a_lost_tail_of_the_log_voids_every_state_that_rested_on_it() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account(), deposit(cents=5)])
        fresh = TroubledLog()
        await fresh.append_batch(
            0, [Append("acme", "accounts/A", [Check("accounts/A", 0)], [opened_event()])]
        )
        log.__dict__.update(fresh.__dict__)
        refused = await pipeline.submit(withdraw(cents=5))
    assert slug(refused) == "insufficient-funds"
    assert refused.error is not None
    assert refused.error.facts()["balance_cents"] == 0


def opened_event() -> NewEvent:
    return NewEvent("accounts/A", UUID.format(99), "AccountOpened", 1, b'{"owner":"Ghost"}')


async def test_an_unknown_outcome_that_was_a_success_is_answered_as_one() -> None:  # F02
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        log.after_append = [OutcomeUnknown()]
        answers = await pipeline.submit_many([open_account(), deposit(cents=2, key="k"), withdraw(cents=9)])
    assert [slug(answer) for answer in answers] == [None, None, "insufficient-funds"]
    assert len(await events_of(log, "accounts/A")) == 2


async def test_an_unknown_outcome_that_was_none_is_tried_again_once() -> None:  # F02
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        log.before_append = [OutcomeUnknown()]
        answers = await pipeline.submit_many([open_account(), deposit(cents=2)])
    assert all(answer.accepted for answer in answers)
    assert len(await events_of(log, "accounts/A")) == 2


async def test_an_outcome_is_unknown_only_when_it_cannot_be_found_out_in_time() -> None:
    log = TroubledLog()
    async with pipeline_over(log, settle_seconds_max=0.3) as pipeline:
        log.after_append = [OutcomeUnknown()]
        log.settle_errors = [StoreUnavailable() for _ in range(50)]
        assert slug(await pipeline.submit(open_account(key="k"))) == "outcome-unknown"
        log.settle_errors = []
        repeated = await pipeline.submit(open_account(key="k"))
    assert repeated.replayed
    assert len(await events_of(log, "accounts/A")) == 1


async def test_a_store_that_stays_away_is_told_and_nothing_has_happened() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        log.before_append = [StoreUnavailable() for _ in range(3)]
        assert slug(await pipeline.submit(open_account())) == "store-unavailable"
        assert (await pipeline.submit(open_account())).accepted


async def test_a_store_that_comes_back_at_once_is_not_noticed() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        log.before_append = [StoreUnavailable()]
        assert (await pipeline.submit(open_account())).accepted


async def test_a_fault_in_a_rule_harms_one_command_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    log = TroubledLog()
    decide = Accounts.decide

    def faulty(self: Accounts, command: Any, *rest: Any) -> Any:
        if getattr(command, "cents", 0) == 13:
            raise RuntimeError("a fault")
        return decide(self, command, *rest)

    monkeypatch.setattr(Accounts, "decide", faulty)
    async with pipeline_over(log) as pipeline:
        answers = await pipeline.submit_many([open_account(), deposit(cents=13), deposit(cents=4)])
    assert [slug(answer) for answer in answers] == [None, "internal", None]
    assert len(await events_of(log, "accounts/A")) == 2


async def test_a_command_that_the_store_chokes_on_harms_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    log = TroubledLog()
    append_batch = log.append_batch

    async def choke(partition: int, appends: Sequence[Append], **known: Any) -> Any:
        if any(event.data.count(b"13") for append in appends for event in append.events):
            raise RuntimeError("unforeseen")
        return await append_batch(partition, appends, **known)

    monkeypatch.setattr(log, "append_batch", choke)
    async with pipeline_over(log) as pipeline:
        answers = await pipeline.submit_many([open_account(), deposit(cents=13), deposit(cents=4)])
        group = await pipeline.submit_many([deposit(cents=13), deposit(cents=4)], atomic=True)
    assert [slug(answer) for answer in answers] == [None, "internal", None]
    assert {slug(answer) for answer in group} == {"internal"}
    assert len(await events_of(log, "accounts/A")) == 2


async def test_a_full_queue_is_refused_at_once_and_its_neighbours_get_their_turn() -> None:  # F52
    log = TroubledLog()
    async with pipeline_over(log, tenant_commands_max=3, batch_commands_max=1) as pipeline:
        await pipeline.submit(open_account())
        log.gate.clear()
        log.entered.clear()
        under_way = asyncio.create_task(pipeline.submit(deposit()))
        await log.entered.wait()
        waiting = [asyncio.create_task(pipeline.submit(deposit())) for _ in range(3)]
        await asyncio.sleep(0)
        assert slug(await pipeline.submit(deposit())) == "overloaded"
        neighbour = asyncio.create_task(pipeline.submit(open_account(by=OTHER_TENANT)))
        await asyncio.sleep(0)
        log.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(under_way, neighbour, *waiting), 5)
    assert all(answer.accepted for answer in answers)


async def test_a_client_that_hangs_up_neither_harms_its_neighbours_nor_undoes_what_was_taken() -> None:  # F05
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())
        log.gate.clear()
        leaving = [asyncio.create_task(pipeline.submit(deposit())) for _ in range(5)]
        staying = [asyncio.create_task(pipeline.submit(deposit())) for _ in range(5)]
        await asyncio.sleep(0.01)
        for task in leaving:
            task.cancel()
        log.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*staying), 5)
    assert all(answer.accepted for answer in answers)


async def test_no_accepted_request_stays_unanswered_however_the_log_behaves() -> None:
    log = TroubledLog()
    async with pipeline_over(log, batch_commands_max=4) as pipeline:
        await pipeline.submit(open_account())
        trouble = [StoreUnavailable, OutcomeUnknown, None, None, None, RuntimeError]
        log.before_append = [kind() if kind else None for _ in range(60) for kind in trouble]

        async def client() -> int:
            answered = 0
            for _ in range(40):
                await pipeline.submit(deposit())
                answered += 1
            return answered

        answered = await asyncio.wait_for(asyncio.gather(*(client() for _ in range(16))), 30)
    assert answered == [40] * 16


async def test_at_the_end_what_waits_is_finished_and_what_comes_late_is_refused() -> None:  # F09
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())
        tasks = [asyncio.create_task(pipeline.submit(deposit())) for _ in range(20)]
        await asyncio.sleep(0)
        await pipeline.close()
        assert all(answer.accepted for answer in await asyncio.gather(*tasks))
        assert slug(await pipeline.submit(deposit())) == "overloaded"


async def test_the_past_of_an_older_version_is_read_as_the_newest() -> None:
    log = MemoryLog()
    event = NewEvent("accounts/A", UUID.format(2), "Deposited", 1, b'{"cents":7}')
    checks = [Check("accounts/A", 0)]
    await log.append_batch(0, [Append("acme", "accounts/A", checks, [opened_event(), event])])
    async with pipeline_over(log) as pipeline:
        assert (await pipeline.submit(withdraw(cents=7))).accepted


async def test_an_event_of_the_future_stops_its_stream_and_no_other() -> None:  # F39
    log = MemoryLog()
    event = NewEvent("accounts/A", UUID.format(2), "Renamed", 9, b"{}")
    await log.append_batch(0, [Append("acme", "accounts/A", [Check("accounts/A", 0)], [event])])
    async with pipeline_over(log) as pipeline:
        refused, accepted = await pipeline.submit_many([deposit("A"), open_account("B")])
    assert isinstance(refused.error, StreamsUnreadable)
    assert refused.error.status == 503
    assert refused.error.facts() == {"stream": "accounts/A", "event_type": "Renamed", "schema_version": 9}
    assert problem_of(refused.error)["event_type"] == "Renamed"
    assert accepted.accepted


async def test_stored_bytes_that_do_not_fit_stop_their_stream_and_are_named() -> None:  # F39
    log = MemoryLog()
    event = NewEvent("accounts/A", UUID.format(2), "Deposited", 2, b'{"cents":"many"}')
    await log.append_batch(0, [Append("acme", "accounts/A", [Check("accounts/A", 0)], [event])])
    async with pipeline_over(log) as pipeline:
        answer = await pipeline.submit(deposit("A"))
    assert isinstance(answer.error, StreamsUnreadable)
    assert answer.error.event_type == "Deposited"


async def test_a_rule_that_says_something_new_with_an_old_class_is_a_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own state would be folded from a class that nothing else folds, until the stream is next loaded."""
    log = MemoryLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())
        monkeypatch.setattr(Accounts, "decide", lambda self, command, states, context: [DepositedV1(cents=1)])
        assert slug(await pipeline.submit(deposit())) == "bad-definition"
    assert len(await events_of(log, "accounts/A")) == 1


async def test_the_past_of_renamed_split_and_dropped_events_is_read_as_today() -> None:
    log = MemoryLog()
    old = [
        ("AccountOpenedWith", b'{"owner":"Ann","cents":7}'),
        ("AccountPolished", b"{}"),
        ("Deposited", b'{"cents":3}'),
    ]
    events = [
        NewEvent("accounts/A", UUID.format(n), type_, 1, data) for n, (type_, data) in enumerate(old, 2)
    ]
    await log.append_batch(0, [Append("acme", "accounts/A", [Check("accounts/A", 0)], events)])
    async with pipeline_over(log) as pipeline:
        assert slug(await pipeline.submit(withdraw(cents=11))) == "insufficient-funds"
        answer = await pipeline.submit(withdraw(cents=10))
    assert (answer.accepted, answer.version) == (True, 4)


async def test_a_first_answer_that_cannot_be_read_is_said_to_be_so_and_holds_no_other_up() -> None:  # F39
    registry = load_registry([DOMAIN])
    pipeline = Pipeline(MemoryLog(), RULES, registry)
    commands = [open_account("A", key="a"), deposit("A", key="b")]
    await pipeline.submit_many(commands)
    del registry.events["Deposited", 2]
    opened, paid_in = await pipeline.submit_many(commands)
    await pipeline.close()
    assert opened.replayed
    assert isinstance(paid_in.error, StreamsUnreadable)
    assert paid_in.error.facts() == {"stream": "accounts/A", "event_type": "Deposited", "schema_version": 2}


# -- groups that go together ---------------------------------------------------------------------------


async def test_an_atomic_group_is_appended_together_and_each_keeps_its_own_metadata() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        answers = await pipeline.submit_many(
            [open_account("A"), deposit("A", 5, reason="gift"), open_account("B"), deposit("B", 1)],
            atomic=True,
        )
    assert all(answer.accepted for answer in answers)
    assert log.appends == [4]
    opened, paid_in = await events_of(log, "accounts/A")
    assert b"accounts.open" in opened.metadata
    assert b'"reason":"gift"' in paid_in.metadata


async def test_one_refusal_refuses_the_group_and_names_its_culprit() -> None:
    log = MemoryLog()
    async with pipeline_over(log) as pipeline:
        answers = await pipeline.submit_many(
            [open_account("A"), withdraw("A"), open_account("B")], atomic=True
        )
    assert {slug(answer) for answer in answers} == {"insufficient-funds"}
    assert {answer.culprit for answer in answers} == {1}
    assert await events_of(log, "accounts/A") == await events_of(log, "accounts/B") == []


async def test_a_group_whose_streams_were_written_meanwhile_is_decided_again_as_a_whole() -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit_many([open_account("A"), deposit("A", 3)])
        log.before_append = [lambda: deposit_elsewhere(log, 2)]
        answers = await pipeline.submit_many(
            [open_account("B"), open_account("C"), withdraw("A", 3), deposit("B", 1)], atomic=True
        )
    assert all(answer.accepted for answer in answers)
    assert [len(await events_of(log, f"accounts/{name}")) for name in "ABC"] == [4, 2, 1]
    assert log.appends == [2, 4, 4]


async def test_a_group_is_repeated_by_its_keys() -> None:
    log = MemoryLog()
    group = [open_account("A", key="k1"), deposit("A", 5, key="k2"), open_account("B", key="k3")]
    async with pipeline_over(log) as pipeline:
        first = await pipeline.submit_many(group, atomic=True)
        again = await pipeline.submit_many(group, atomic=True)
        single = await pipeline.submit(deposit("A", 5, key="k2"))
        reused = await pipeline.submit_many([open_account("C"), deposit("A", 6, key="k2")], atomic=True)
    assert [answer.replayed for answer in again] == [True] * 3
    assert [answer.position for answer in again] == [answer.position for answer in first]
    assert single.replayed
    assert {slug(answer) for answer in reused} == {"idempotency-key-reused"}
    assert await events_of(log, "accounts/C") == []


async def test_a_group_that_loses_its_connection_while_committing_is_whole_or_not_there() -> None:  # F02
    for before in (True, False):
        log = TroubledLog()
        async with pipeline_over(log) as pipeline:
            (log.before_append if before else log.after_append).append(OutcomeUnknown())
            answers = await pipeline.submit_many(
                [open_account("A"), open_account("B"), deposit("A")], atomic=True
            )
        assert all(answer.accepted for answer in answers)
        assert [len(await events_of(log, f"accounts/{name}")) for name in "AB"] == [2, 1]


async def test_what_was_drafted_on_an_append_that_failed_is_decided_again_though_versions_fit() -> (
    None
):  # F06
    """Another process takes the version that the first append was to make, so expected versions alone would hold."""
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())
        waiting: list[asyncio.Task[Any]] = []

        async def meanwhile() -> None:
            waiting.append(asyncio.create_task(pipeline.submit(withdraw(cents=60))))
            await asyncio.sleep(0.02)
            await deposit_elsewhere(log, 1, cents=1)

        log.before_append = [meanwhile]
        first = await pipeline.submit(deposit(cents=100))
        second = await waiting[0]
    assert [slug(first), slug(second)] == [None, None]
    types = [event.type for event in await events_of(log, "accounts/A")]
    assert types == ["AccountOpened", "Deposited", "Deposited", "Withdrawn"]


async def test_the_next_batch_is_decided_while_one_is_appended_and_sent_before_that_is_answered() -> None:
    log = TroubledLog()
    order: list[str] = []
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())
        waiting: list[asyncio.Task[Any]] = []

        async def send(name: str) -> None:
            answer = await pipeline.submit(deposit(cents=1))
            assert answer.accepted
            order.append(f"{name} answered")

        async def first_append() -> None:
            waiting.extend(asyncio.create_task(send(f"later {number}")) for number in range(20))
            await asyncio.sleep(0.02)

        async def second_append() -> None:
            order.append("second append")

        log.before_append = [first_append, second_append]
        await send("first")
        await asyncio.gather(*waiting)
    assert log.appends == [1, 1, 20]
    assert order[:2] == ["second append", "first answered"]


async def test_a_fault_of_ours_in_the_worker_leaves_nobody_waiting_and_the_next_command_is_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())

        def fail(*_arguments: Any) -> bool:
            monkeypatch.undo()
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(Draft, "rests_on", fail)
        assert slug(await pipeline.submit(deposit(cents=1))) == "outcome-unknown"
        assert (await pipeline.submit(deposit(cents=1))).accepted
    assert len(await events_of(log, "accounts/A")) == 3


async def test_what_is_under_way_when_the_process_ends_has_an_unknown_outcome_and_the_rest_was_not_tried() -> (
    None
):
    log = TroubledLog()
    async with pipeline_over(log) as pipeline:
        await pipeline.submit(open_account())
        log.gate.clear()
        log.entered.clear()
        sent = asyncio.create_task(pipeline.submit(deposit(cents=1)))
        await log.entered.wait()
        drafted = [asyncio.create_task(pipeline.submit(deposit(cents=1))) for _ in range(20)]
        await asyncio.sleep(0.01)
        await pipeline.close(drain_seconds_max=0.01)
        assert slug(await sent) == "outcome-unknown"
        assert {slug(await command) for command in drafted} == {"overloaded"}


async def test_a_batch_that_is_sent_again_gets_its_first_answers_in_one_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = TroubledLog()
    commands = [
        open_account(key="k-open"),
        *(deposit(cents=cents, key=f"k-{cents}") for cents in range(1, 40)),
    ]
    reads: list[tuple[int, int]] = []
    read_range = log.read_range

    async def counted(partition: int, first: int, last: int, **tenants: Any) -> Sequence[Any]:
        reads.append((first, last))
        return await read_range(partition, first, last, **tenants)

    async with pipeline_over(log) as pipeline:
        first = await pipeline.submit_many(commands)
        for number in range(100):
            await deposit_elsewhere(log, 40 + number, number=number)
        later = await pipeline.submit(deposit(cents=77, key="k-later"))
        monkeypatch.setattr(log, "read_range", counted)
        again = await pipeline.submit_many([*commands[::-1], deposit(cents=77, key="k-later")])
    assert all(answer.replayed for answer in again)
    assert [answer._replace(replayed=False) for answer in again] == [*first[::-1], later]
    assert reads == [(1, 40), (141, 141)]
