"""
Makes the services known to every test; what each one gives is said in services.py.

With several test processes a file stays in one of them, and so do all tests on the shared running system: what a
file or a session starts is then started once.
"""

import pytest

from infra.open_files import allow_open_files

pytest_plugins = ["tests.services"]
SHARED_SYSTEM = "system"


def pytest_configure() -> None:
    """Let tests open as many connections as the command line's processes may."""
    allow_open_files()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together; refuse names that differ from one test process to another."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} bears the address of an object; give its parameters ids")
        shares = SHARED_SYSTEM in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group(SHARED_SYSTEM if shares else item.nodeid.partition("::")[0]))
