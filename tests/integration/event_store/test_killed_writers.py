"""Writers that are killed lose nothing and leave no gap, and who follows sees every event once. # F02, F03, F16"""

from tests.chaos.log_writers import run

WRITERS, EVENTS, SEED = 8, 2_500, 7


async def test_eight_writers_that_are_killed_at_random_leave_a_whole_log(database: str) -> None:
    """`python -m tests.chaos.log_writers` is the long form."""
    assert await run(database, WRITERS, EVENTS, SEED) == []
