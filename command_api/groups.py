"""
Atomic groups: commands that are decided in order on each other's events, and appended together or not at all.

Each command stays an append of its own, with its own key and metadata. One of them leads: it carries the
checks of the whole group, and every other one builds on a stream that it writes, so when the leader is not
appended none is. Keys are looked up first, as a key that is bound already would break the group apart.
"""

from collections.abc import Sequence
from dataclasses import replace

from command_api.deciding import Decision
from command_api.pending import Group, Pending
from event_store.log import Append, Check, Expect


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
    checks = [Check(name, version) for name, version in _versions_before(decisions).items()]
    ordered = [_with_checks(leader, checks)]
    version = leader.written[stream].version
    for decision in decisions:
        if decision is leader:
            continue
        lead = Check(stream, version)
        own = decision.append.checks if decision.written else ()
        ordered.append(_with_checks(decision, [lead, *(check for check in own if check.stream != stream)]))
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
    before = _versions_before([*decisions, refused])
    return _with_checks(refused, [Check(stream, version) for stream, version in before.items()])


def _with_checks(decision: Decision, checks: Sequence[Check]) -> Decision:
    return replace(decision, append=replace(decision.append, checks=checks))
