"""Logs as a process writes them: one line each."""

import pytest

from infra.telemetry import start_telemetry


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Write logs as in production; the default draws each traceback with all its values."""
    start_telemetry(role="test")
