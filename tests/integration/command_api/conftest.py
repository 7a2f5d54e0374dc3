"""The command API over a real log, for every test of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.telemetry import start_telemetry
from tests.integration.command_api.clients import Api, api_over


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Write logs as in production; the default draws each traceback with all its values."""
    start_telemetry(role="test")


@pytest.fixture
async def api(store_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """One command API."""
    async with api_over(store_url, tmp_path) as made:
        yield made


@pytest.fixture
async def other_api(store_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Another one over the same log, with caches of its own, as another process would be."""
    async with api_over(store_url, tmp_path) as made:
        yield made
