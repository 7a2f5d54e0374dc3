"""
What waits for one partition's worker: a bounded queue for each tenant, taken in turn.

A flooding tenant fills its own queue and is told so at once; its neighbours get their turn in the next batch.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from weakref import WeakSet

from command_api.pending import Group, Pending
from infra.telemetry import Gauge
from schemas.errors import Overloaded

TENANT_COMMANDS_MAX = 4_000
TENANT_BYTES_MAX = 64 * 1024 * 1024
WAITING_BYTES_MAX = 512 * 1024 * 1024
TURN_COMMANDS = 16
"""How many commands a tenant gives in its turn, so that turns cost little."""

Item = Pending | Group

_queues: "WeakSet[TenantQueues]" = WeakSet()
_depth = Gauge("everfold_pipeline_waiting_commands", "Commands that wait for their batch")
_depth.set_function(lambda: sum(len(queues) for queues in _queues))


class _Line:
    """One tenant's queue."""

    __slots__ = ("bytes", "commands", "items")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.commands = self.bytes = 0

    def count(self, item: Item, sign: int = 1) -> None:
        self.commands += sign * item.count
        self.bytes += sign * item.size


class TenantQueues:
    """Queues by tenant, with bounds on each and on all."""

    def __init__(self, *, tenant_commands_max: int = TENANT_COMMANDS_MAX) -> None:
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._commands_max = tenant_commands_max
        self._bytes = 0
        _queues.add(self)

    def __len__(self) -> int:
        return sum(line.commands for line in self._lines.values())

    def offer(self, items: Sequence[Item]) -> None:
        """
        Take in one tenant's items, all or none.

        Raises:
            Overloaded: They do not fit.
        """
        line = self._lines.get(items[0].tenant) or _Line()
        commands, size = sum(item.count for item in items), sum(item.size for item in items)
        if (
            line.commands + commands > self._commands_max
            or line.bytes + size > TENANT_BYTES_MAX
            or self._bytes + size > WAITING_BYTES_MAX
        ):
            raise Overloaded(line.commands)
        for item in items:
            self._add(item, line)

    def put_back(self, items: Sequence[Item]) -> None:
        """Take back what was taken, in front of what came later; there is always room."""
        for item in reversed(items):
            line = self._lines.get(item.tenant) or _Line()
            self._add(item, line, front=True)

    def _add(self, item: Item, line: _Line, *, front: bool = False) -> None:
        self._lines.setdefault(item.tenant, line)
        (line.items.appendleft if front else line.items.append)(item)
        line.count(item)
        self._bytes += item.size

    def take(self, *, commands_max: int, bytes_max: int, alone: bool = True) -> Sequence[Item]:
        """
        Return the next batch: commands of all tenants in turn, or one group by itself; empty when none wait.

        Where `alone` is false, what has to be by itself waits, and whatever comes behind it.
        """
        batch: list[Item] = []
        room, bytes_room = commands_max, bytes_max
        while self._lines and room > 0:
            tenant, line = next(iter(self._lines.items()))
            for _ in range(min(TURN_COMMANDS, room)):
                item = line.items[0]
                if (item.alone and (batch or not alone)) or (batch and item.size > bytes_room):
                    return batch
                self._remove_first(line)
                bytes_room -= item.size
                if not item.abandoned:
                    batch.append(item)
                    room -= 1
                if not line.items:
                    break
                if item.alone and batch:
                    break
            if line.items:
                self._lines.move_to_end(tenant)
            else:
                del self._lines[tenant]
            if batch and batch[0].alone:
                return batch
        return batch

    def _remove_first(self, line: _Line) -> None:
        item = line.items.popleft()
        line.count(item, -1)
        self._bytes -= item.size

    def drain(self) -> Iterator[Item]:
        """Take everything out."""
        while batch := self.take(commands_max=TENANT_COMMANDS_MAX, bytes_max=WAITING_BYTES_MAX):
            yield from batch


def commands_of(items: Iterable[Item]) -> Iterator[Pending]:
    """Return all commands of some items, those of groups too."""
    for item in items:
        yield from item.commands
