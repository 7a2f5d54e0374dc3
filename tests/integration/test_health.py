"""`/livez`, `/readyz` and `/metrics` of a role without an API."""

import asyncio
from collections.abc import Mapping

import httpx2
import pytest

from infra import health
from infra.embedded.errors import PortTaken
from infra.embedded.ports import free_port
from infra.health import serve_health


class Role:
    """A role that lacks what the test says."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}

    async def ready(self) -> Mapping[str, str]:
        return self.missing


async def test_a_role_is_ready_when_nothing_is_missing_and_says_what_is() -> None:
    role = Role()
    async with (
        serve_health(None, role.ready) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        role.missing = {"database": "does not answer"}
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "missing": {"database": "does not answer"}}
        assert (await client.get("/livez")).status_code == 200


async def test_metrics_are_in_prometheus_text_form() -> None:
    async with serve_health(None, Role().ready) as port, httpx2.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# HELP" in answer.text


async def test_readiness_that_does_not_come_back_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READY_SECONDS_MAX", 0.05)

    async def never() -> Mapping[str, str]:
        await asyncio.Event().wait()
        return {}

    async with serve_health(None, never) as port, httpx2.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/readyz")
    assert answer.status_code == 503


async def test_a_port_that_is_taken_is_named() -> None:
    async with serve_health(free_port(), Role().ready) as port:
        with pytest.raises(PortTaken) as refused:
            async with serve_health(port, Role().ready):
                pytest.fail("two servers listen on one port")
    assert (refused.value.port, refused.value.variable) == (port, "EVERFOLD_HEALTH_PORT")


async def test_the_port_is_free_again_afterwards() -> None:
    async with serve_health(None, Role().ready) as port:
        pass
    async with serve_health(port, Role().ready) as again:
        assert again == port
