"""
Scheduled commands with their personal fields sealed, as they are kept until they are sent.

They need no scrubbing when a person is erased: without the key they read as erased.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from event_store.sealing import Sealable, Sealer
from schemas.registry import Registry


class Scheduled(NamedTuple):
    """A command that is kept."""

    tenant: str
    command: str
    step: str
    """The key that it will be sent with, which names it for ever."""
    fields: bytes


class SealedCommands:
    """Seals and opens commands by their own marks."""

    def __init__(self, sealer: Sealer, registry: Registry) -> None:
        self._sealer, self._registry = sealer, registry

    async def seal(self, commands: Sequence[Scheduled]) -> Sequence[bytes]:
        """Return the fields of commands as they may be stored; see `Sealer.seal`."""
        return await self._changed(commands, self._sealer.seal)

    async def open(self, commands: Sequence[Scheduled]) -> Sequence[bytes]:
        """Return the fields of stored commands as they were, or as erased; see `Sealer.open`."""
        return await self._changed(commands, self._sealer.open)

    async def _changed(
        self,
        commands: Sequence[Scheduled],
        change: Callable[[Sequence[Sealable]], Awaitable[Sequence[bytes]]],
    ) -> Sequence[bytes]:
        changed = [command.fields for command in commands]
        messages: dict[int, Sealable] = {}
        for number, command in enumerate(commands):
            model = self._registry.commands.get(command.command)
            fields = None if model is None else self._registry.personal_commands.get(model)
            if fields is not None:
                place = "command", command.step, command.command
                messages[number] = Sealable(command.tenant, place, fields, command.fields)
        if messages:
            for number, one in zip(messages, await change(list(messages.values())), strict=True):
                changed[number] = one
        return changed
