"""
Atomic groups: commands that are decided in order on each other's events, and appended together or not at all.

Each command stays an append of its own, with its own key and metadata. One of them leads: it carries the checks and
conditions of the whole group, and every other one builds on a stream that it writes, so when the leader is not
appended none is. Keys are looked up first, as a key that is bound already would break the group apart.
"""

from collections.abc import Sequence
from dataclasses import replace

from command_api.deciding import Decision, checks_of, conditions_of
from command_api.pending import Group, Pending
from event_store.log import Append, Check, Condition, Expect


def key_checks(group: Group) -> tuple[Sequence[Pending], Sequence[Append]]:
    """Return the members that have keys and have no answer yet, and what asks the log about each key."""
    keyed = [member for member in group.members if member.key is not None and member.answer is None]
    appends = [
        Append(
            member.tenant,
            member.stream,
            (Check(member.stream, Expect.ANY),),
            key=member.key,
            binds=False,
        )
        for member in keyed
    ]
    return keyed, appends


def bind_together(decisions: Sequence[Decision]) -> Sequence[Decision]:
    """Return a group's decisions in the order to append them, each resting on the first."""
    writing = [decision for decision in decisions if decision.written]
    if not writing:
        return decisions
    leader = writing[0]
    stream = next(iter(leader.written))
    ordered = [_requiring(leader, checks_of(_versions_before(decisions)), _conditions(decisions))]
    version = leader.written[stream].version
    for decision in decisions:
        if decision is leader:
            continue
        lead = Check(stream, version)
        own = decision.append.checks if decision.written else ()
        ordered.append(_requiring(decision, [lead, *(check for check in own if check.stream != stream)]))
        if stream in decision.written:
            version = decision.written[stream].version
    return ordered


def _versions_before(decisions: Sequence[Decision]) -> dict[str, int]:
    """Return the version of every stream that the group looks at, as it was before the group."""
    before: dict[str, int] = {}
    for decision in decisions:
        for stream, version in decision.seen.items():
            before.setdefault(stream, version)
    return before


def refusal_of(decisions: Sequence[Decision], refused: Decision) -> Decision:
    """Return a group's refusal as a check of all that led to it, at the versions before the group."""
    group = [*decisions, refused]
    return _requiring(refused, checks_of(_versions_before(group)), _conditions(group))


def _conditions(decisions: Sequence[Decision]) -> Sequence[Condition]:
    """Return what the group expects of all tags that it looked at; each was seen before the group's own events."""
    seen = {tag: position for decision in decisions for tag, position in decision.seen_tags.items()}
    return conditions_of(seen)


def _requiring(decision: Decision, checks: Sequence[Check], conditions: Sequence[Condition] = ()) -> Decision:
    return replace(decision, append=replace(decision.append, checks=checks, conditions=conditions))
