"""What workflows tell: with the step that it is of, once the reaction has ended, and nothing that is personal."""

from typing import Annotated, Any

import pytest

from command_api.workflow import Reaction, Send, Tell, Trigger, Workflow, on
from command_api.workflow_rounds import Effects, Rounds
from schemas import Notice, Personal
from schemas.errors import BadDefinition
from schemas.messages import Id, Text
from tests.toy import AccountGreeted, AccountOpened, Deposit
from tests.unit.command_api.test_workflow_rounds import Notebook, take


class Herald(Workflow):
    """Says each of the owner's words."""

    name = "herald"
    commands = (Deposit,)
    notices = (AccountGreeted,)

    @on(AccountOpened)
    def opened(self, trigger: Trigger) -> Reaction:
        (account_id,) = trigger.ids
        for word in trigger.event.owner.split():
            if word == "fail":
                raise ValueError(word)
            if word == "pay":
                yield [Send(Deposit(account_id=account_id, cents=1))]
            else:
                yield [Tell(AccountGreeted(account_id=account_id, owner=word))]


async def run(*takes: tuple[str, str]) -> Effects:
    numbered = [take(account_id, owner, position) for position, (account_id, owner) in enumerate(takes, 1)]
    return await Rounds(Herald(), Notebook(), held=frozenset()).run(numbered)


async def test_each_message_knows_its_step() -> None:
    effects = await run(("A", "hello pay again"))
    said: list[Any] = [(one.notice, one.number) for one in effects.messages]
    assert [(notice.owner, number) for notice, number in said] == [("hello", 0), ("again", 2)]


async def test_a_reaction_that_fails_has_told_nothing_and_others_have() -> None:
    effects = await run(("A", "hello fail"), ("B", "hi"))
    said: list[Any] = [one.notice for one in effects.messages]
    assert [notice.owner for notice in said] == ["hi"]
    assert len(effects.set_aside) == 1


def test_a_notice_needs_somebody_who_is_told() -> None:
    class Mumbled(Notice):
        text: Text

    with pytest.raises(BadDefinition, match="Mumbled"):
        type("Mumbler", (Workflow,), {"name": "mumbler", "notices": (Mumbled,)})


def test_a_notice_holds_nothing_personal() -> None:
    class Gossip(Notice, channel="gossip", type="toy.Gossip.v1"):
        owner_id: Id
        address: Annotated[Text | None, Personal("owner_id")] = None

    with pytest.raises(BadDefinition, match="personal"):
        type("Gossiper", (Workflow,), {"name": "gossiper", "notices": (Gossip,)})
