"""The whole system as processes, with a broker and without, for the tests that talk to it over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.system import RunningSystem
from tests.queues import tidy_system
from tests.system import settings_for


@pytest.fixture(scope="session", params=["log", "rabbitmq"])
async def system(request: pytest.FixtureRequest, services_folder: Path) -> AsyncIterator[RunningSystem]:
    """A running system, once tailing the log and once through RabbitMQ."""
    broker_url = "log" if request.param == "log" else request.getfixturevalue("broker_url")
    settings = settings_for(services_folder / f"system-{request.param}", broker_url=broker_url)
    async with tidy_system(settings) as running:
        yield running
