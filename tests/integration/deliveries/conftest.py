"""A log with clients, and a file of channels that leads to receivers of the test's own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from command_api.deliveries import STATES, Deliveries
from tests.integration.deliveries.receiver import SECRET, Receiver, receiving
from tests.integration.workflows.world import TENANT, World, open_world
from tests.toy import OpenAccount


@dataclass
class Post:
    """A world whose owners are greeted, and who receives that."""

    world: World
    receiver: Receiver
    file: Path

    def route(self, **more: Any) -> None:
        """Write the channels' file: greetings go to the receiver, tried again soon."""
        self.write({"webhook": self.receiver.url, "secrets": [SECRET], "retry_seconds": [0.05] * 20} | more)

    def write(self, *channels: dict[str, Any]) -> None:
        """Write the channels' file."""
        lines = []
        for channel in channels:
            lines.append("[[channel]]")
            lines += [f"{name} = {_toml(value)}" for name, value in ({"name": "greetings"} | channel).items()]
        self.file.write_text("\n".join(lines))

    async def greet(self, *numbers: int, owner: str = "polite", tenant: str = TENANT) -> None:
        """Open accounts whose owners are to be greeted."""
        commands = [OpenAccount(account_id=f"{owner}-{number}", owner=owner) for number in numbers]
        await self.world.send(*commands, tenant=tenant)

    async def messages(self, tenant: str = TENANT) -> Sequence[dict[str, Any]]:
        """Return all messages, as an operator sees them."""
        return await Deliveries(self.world.pool, self.world.schema, tenant).list(STATES)

    async def until(self, state: str, count: int) -> None:
        """Wait until so many messages are in a state, and no other is there."""

        async def are() -> bool:
            states = [one["state"] for one in await self.messages()]
            return states == [state] * count

        await self.world.until(are)


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


@pytest.fixture
async def post(store_url: str, tmp_path: Path) -> AsyncIterator[Post]:
    file = tmp_path / "channels.toml"
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(store_url, domains="toy", channels_file=file))
        receiver = await stack.enter_async_context(receiving())
        opened = Post(world, receiver, file)
        opened.route()
        yield opened
