"""A head that cannot be read is told as lag, and not as a head that stands still."""

import time
from collections.abc import Mapping

from event_store.lag import UNSEEN_SECONDS_MAX, LagMeter
from event_store.log import Append, Check, Expect, NewEvent
from event_store.memory import MemoryLog
from schemas.envelope import CommitMark
from schemas.errors import StoreUnavailable


class Hiding(MemoryLog):
    """A log whose heads cannot be read for a while."""

    is_away = False

    async def reachable_heads(self) -> Mapping[int, CommitMark]:
        if self.is_away:
            raise StoreUnavailable
        return await super().reachable_heads()


async def test_lag_grows_while_the_head_is_not_seen_and_is_missed_in_the_end() -> None:
    log, now = Hiding(1), [time.time()]
    meter = LagMeter(log, lambda: now[0])
    event = NewEvent("a/1", "01890a5d-ac96-774b-bcce-b302099a8051", "X", 1, b"{}")
    await log.append_batch(0, [Append("t", "a/1", [Check("a/1", Expect.ANY)], [event], b"{}")])
    await meter.measure([("c", 0, 1)])
    assert (meter.document(), meter.missing()) == ({"c": {"0": {"events": 0, "seconds": 0.0}}}, {})
    log.is_away = True
    now[0] += 10
    await meter.measure([("c", 0, 1)])
    assert (meter.document()["c"]["0"], meter.missing()) == ({"events": 0, "seconds": 10.0}, {})
    now[0] += UNSEEN_SECONDS_MAX
    await meter.measure([("c", 0, 1)])
    assert meter.missing().keys() == {"log"}
    log.is_away = False
    await meter.measure([("c", 0, 0)])
    lag = meter.document()["c"]["0"]
    assert (lag["events"], lag["seconds"] > 20, meter.missing()) == (1, True, {})
    await meter.measure([])
    assert meter.document() == {}
