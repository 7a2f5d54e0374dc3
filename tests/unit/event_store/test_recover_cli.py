"""What `everfold recover` says of what it found."""

from event_store.lost_moves import MovesKept, refusals
from event_store.recover_cli import sentences

REPORT = {
    "lost": [{"partition": 0, "said": "the log ends at 4, and had come to 5: 1 positions are lost"}],
    "followers": {"set_back": [], "rebuilt": [], "forgotten": {}},
    "steps": {},
    "epoch": 1,
    "exported": "heads/heads-1.json",
}


def said_of(*kept: MovesKept) -> list[str]:
    """Return the lines about tenants."""
    lines = sentences(REPORT | {"tenants": [one.document() for one in kept]})
    return [line for line in lines if line.startswith("tenant ")]


def test_a_fence_that_was_put_up_again_is_said_with_what_the_loss_has_torn() -> None:
    torn = MovesKept("acme", 4, fences={0: 5}, keys_forgotten=1, streams_cut=2, named=["a/1", "b/1"])
    assert said_of(torn) == [
        "tenant acme: its fence in partition 0 was lost, and stands at 5 now",
        (
            "tenant acme: 2 streams lack what they had when it left (a/1, b/1), and 1 keys that were bound to it are "
            "forgotten"
        ),
    ]
    assert said_of(MovesKept("acme", 4, arrivals={4: 9})) == [
        "tenant acme: its arrival in partition 4 was lost, and stands at 9 now"
    ]
    assert said_of(MovesKept("globex", 4, placed=True)) == [
        "tenant globex: every server knows again that it lives in partition 4"
    ]
    assert said_of() == []


def test_two_histories_are_refused_with_what_to_do_and_nothing_else_is() -> None:
    (said,) = refusals(
        [MovesKept("acme", 4, fences={0: 5}), MovesKept("x", 4, streams_doubled=1, named=["a/1"])]
    )
    assert said.startswith("tenant x has two histories: it lives in partition 4")
    assert "(a/1). Restore that server once more" in said
