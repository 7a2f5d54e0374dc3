"""The read side under test, for every test of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.query_api.readside import ReadSideUnderTest
from tests.toy import DOMAIN


@pytest.fixture(autouse=True)
def toy_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the toy domain where the settings say `toy`: it has no entry point."""
    monkeypatch.setattr("query_api.app.load_domains", lambda _names: (DOMAIN,))


@pytest.fixture
async def side(store_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[ReadSideUnderTest]:
    """A read side with PostgreSQL and Redis."""
    async with ReadSideUnderTest(store_url, redis_url, tmp_path) as side:
        yield side
