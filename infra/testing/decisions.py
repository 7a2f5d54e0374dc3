"""Tests of deciders: what follows from a command, or which rule refuses it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.testing.log import DeciderLike, Fact, Log, Moment, Past
from schemas.errors import ServiceError
from schemas.messages import Command, Event


class GivenRules:
    """Rules and what has happened."""

    def __init__(self, deciders: Iterable[DeciderLike], facts: Iterable[Fact], moment: Moment) -> None:
        self.log = Log(deciders)
        self._past, self._moment = Past(self.log), moment
        self._past.add(facts, moment)

    def when(
        self,
        command: Command,
        *,
        now: datetime | None = None,
        occurred_at: datetime | None = None,
        actor: str = "tester",
        is_system: bool = False,
        reason: str | None = None,
    ) -> "Decided":
        """Carry out a command, and remember what came of it."""
        now = now or self._moment.now
        moment = Moment(now, occurred_at or now, actor, is_system, reason)
        self._past.settle(command.stream, moment)
        before = dict(self.log.states)
        try:
            events = self.log.carry_out(command, moment)
        except ServiceError as refusal:
            assert self.log.states == before, "a refused command changed something"
            return Decided(self, command, [], refusal)
        return Decided(self, command, events, None)


@dataclass(slots=True)
class Decided:
    """What came of a command."""

    past: GivenRules
    command: Command
    events: list[tuple[str, Event]]
    refusal: ServiceError | None

    def then(self, *expected: Event | tuple[str, Event]) -> "Decided":
        """Check that just these events followed; bare ones belong to the command's own stream."""
        if self.refusal is not None:
            raise AssertionError(
                f"{self.command.command_name} was refused: {self.refusal!r}"
            ) from self.refusal
        placed = [
            (self.command.stream, each) if isinstance(each, Event) else tuple(each) for each in expected
        ]
        assert self.events == placed, f"{self.command.command_name} led to {self.events}, not {placed}"
        return self

    def then_nothing(self) -> "Decided":
        """Check that the command was accepted and changed nothing."""
        return self.then()

    def then_accepted(self) -> "Decided":
        """Check that the command was accepted."""
        if self.refusal is not None:
            raise AssertionError(
                f"{self.command.command_name} was refused: {self.refusal!r}"
            ) from self.refusal
        return self

    def then_refused(self, rule: type[ServiceError], **facts: Any) -> "Decided":
        """Check that the command was refused by a rule, with these facts among the refusal's own."""
        assert self.refusal is not None, f"{self.command.command_name} was accepted: {self.events}"
        assert type(self.refusal) is rule, f"refused by {self.refusal!r}, not {rule.__name__}"
        said = self.refusal.facts()
        assert {name: said.get(name) for name in facts} == facts, f"the refusal says {said}, not {facts}"
        return self

    def when(self, command: Command, **moment: Any) -> "Decided":
        """Carry out a further command."""
        return self.past.when(command, **moment)

    def state(self, stream: str | None = None) -> Any:
        """Return a stream's state now; the command's own unless named."""
        return self.past.log.state(stream or self.command.stream)

    def only(self, kind: type[Event]) -> Any:
        """Return the one event of a type that followed."""
        found = [event for _, event in self.then_accepted().events if isinstance(event, kind)]
        assert len(found) == 1, f"{len(found)} events of {kind.__name__}: {self.events}"
        return found[0]
