"""The cheap immutable map is a map, and stays as it was when it is changed."""

from hypothesis import given
from hypothesis import strategies as st

from command_api.supply.buckets import Buckets

keys = st.none() | st.text(max_size=3)
changes = st.lists(st.tuples(keys, st.none() | st.integers()), max_size=300)


@given(changes)
def test_it_holds_what_a_dict_would(script: list[tuple[str | None, int | None]]) -> None:
    plain: dict[str | None, int] = {}
    buckets: Buckets[int] = Buckets()
    for key, value in script:
        if value is None:
            plain.pop(key, None)
            buckets = buckets.drop(key)
        else:
            plain[key] = value
            buckets = buckets.put(key, value)
        assert buckets.get(key) == plain.get(key)
    assert dict(buckets.items()) == plain
    assert len(buckets) == len(plain)


def test_a_change_leaves_the_old_map_as_it_was() -> None:
    old = Buckets[int]()
    for number in range(2_000):
        old = old.put(f"L{number}", number)
    changed = old.put("L7", -1).drop("L8").put("new", 1)
    assert (old.get("L7"), old.get("L8"), old.get("new"), len(old)) == (7, 8, None, 2_000)
    assert (changed.get("L7"), changed.get("L8"), changed.get("new"), len(changed)) == (-1, None, 1, 2_000)


def test_maps_with_the_same_content_are_equal_however_they_came_about() -> None:
    grown = Buckets[int]()
    for number in range(100):
        grown = grown.put(f"L{number}", number)
    for number in range(1, 100):
        grown = grown.drop(f"L{number}")
    assert grown == Buckets[int]().put("L0", 0)
    assert grown != Buckets[int]()
