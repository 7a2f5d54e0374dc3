"""Every state that the rules of supply come to can be saved, and the past goes on from it as if it had not been."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from command_api.saved_states import form_of
from command_api.supply.buckets import Buckets
from tests.unit.supply.story import Story
from tests.unit.supply.words import SUPPLY

STEPS = 120
FORMS = {decider.collection: form_of(decider()) for decider in SUPPLY}
DECIDERS = {decider.collection: decider() for decider in SUPPLY}


def states_of_streams(story: Story) -> dict[str, Any]:
    """Return the states of streams, without those of tags: these are folded from other streams' events."""
    return {
        name: state for name, state in story.log.states.items() if not DECIDERS[name.partition("/")[0]].by_tag
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, STEPS))
def test_a_fold_goes_on_from_a_saved_state_as_from_the_state(seed: int, saved_at: int) -> None:
    story = Story(seed)
    for _ in range(saved_at):
        story.step()
    states = {}
    for stream, state in states_of_streams(story).items():
        codec = FORMS[stream.partition("/")[0]].codec
        states[stream] = codec.decode(codec.encode(state))
        assert states[stream] == state, stream
    events = len(story.log.events)
    for _ in range(STEPS - saved_at):
        story.step()
    for recorded in story.log.events[events:]:
        decider = DECIDERS[recorded.stream.partition("/")[0]]
        before = states.get(recorded.stream, decider.initial)
        states[recorded.stream] = decider.evolve(before, recorded.event)
    assert states == states_of_streams(story)


@given(st.dictionaries(st.none() | st.text(max_size=3), st.integers(), max_size=300))
def test_buckets_come_back_with_room_for_what_comes_next(entries: dict[str | None, int]) -> None:
    grown: Buckets[int] = Buckets()
    for key, value in entries.items():
        grown = grown.put(key, value)
    again = Buckets.from_stored(grown.to_stored())
    assert again == grown
    assert len(again) == len(entries)
    for key in [*entries, "new"]:
        assert again.put(key, 7).get(key) == 7
        assert again.drop(key) == grown.drop(key)
