"""
Stores a story of supply as a log in the corpus: `python -m tests.unit.supply.stored_story log-2.jsonl`.

Stories are told until one has every event that today's rules lead to, but for the two about items, which end it.
"""

import sys
from collections.abc import Sequence

from infra.domains import load_domains, load_registry
from infra.testing.log import Recorded
from schemas.supply.items import ChangeItem, DiscontinueItem
from tests.stored import corpus_of, write_log
from tests.unit.supply.story import Story

STEPS = 400
SEEDS_MAX = 200
ITEMS_ALONE = {"ItemChanged", "ItemDiscontinued"}


def story_of_everything() -> Sequence[Recorded]:
    """Return the events of the first story that has them all."""
    registry = load_registry(load_domains(("supply",)))
    wanted = {event.type for event in registry.events.values() if event not in registry.upcasts}
    for seed in range(SEEDS_MAX):
        story = Story(seed)
        for _ in range(STEPS):
            story.step()
        if wanted - {recorded.event.type for recorded in story.log.events} <= ITEMS_ALONE:
            story.carry_out(ChangeItem(item_id="BOTH", name="Both", category="dressings"))
            story.carry_out(DiscontinueItem(item_id="FREIGHT"))
            return story.log.events
    raise AssertionError(f"none of {SEEDS_MAX} stories has all of: {', '.join(sorted(wanted))}")


if __name__ == "__main__":
    write_log(corpus_of("supply") / sys.argv[1], story_of_everything())
