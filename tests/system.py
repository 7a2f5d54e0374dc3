"""A whole system as processes, for tests: its settings, its command line, and waiting until it has caught up."""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr

from client.http import Client
from infra.settings import Settings
from infra.system import DEMO_TENANT, RunningSystem
from tests.tools import run_tool

TOOL_SECONDS_MAX = 120
ANSWER_SECONDS_MAX = 60.0


def settings_for(folder: Path, *, broker_url: str = "log", **more: Any) -> Settings:
    """Return the settings of a system of its own: embedded servers, free ports, a namespace nobody else has."""
    return Settings(
        _env_file=None,
        data_dir=folder,
        namespace=f"t_{secrets.token_hex(4)}",
        broker_url=SecretStr(broker_url),
        command_port=0,
        query_port=0,
        **more,
    )


def client_of(system: RunningSystem, tenant: str = DEMO_TENANT) -> Client:
    """Return a tenant's client of both APIs."""
    return Client(
        command_url=system.command_url, query_url=system.query_url, token=system.token(tenant=tenant)
    )


def http_of(url: str, token: str) -> httpx2.AsyncClient:
    """Return a client for tests of single answers: it shows every one, whatever it says, and tries nothing again."""
    return httpx2.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        timeout=ANSWER_SECONDS_MAX,
        trust_env=False,
    )


async def tool(system: RunningSystem, *arguments: str) -> tuple[int, str, str]:
    """Run a command of the command line against a system: its exit status, output and error output."""
    environment = {**os.environ, **system.environment()}
    return await run_tool(arguments, environment, seconds_max=TOOL_SECONDS_MAX)


async def facts(system: RunningSystem, *arguments: str) -> tuple[int, Mapping[str, Any]]:
    """Run a command with `--json` and return its exit status and what it said."""
    status, out, err = await tool(system, *arguments, "--json")
    assert out.strip(), err
    return status, json.loads(out.strip().splitlines()[-1])


async def caught_up(system: RunningSystem, seconds_max: float = 60.0) -> float:
    """Wait until every projection and workflow has lag 0; return how long it took."""
    began = asyncio.get_running_loop().time()
    while True:
        _, status = await facts(system, "status")
        behind = [c["name"] for kind in ("projections", "workflows") for c in status[kind] if c["lag_events"]]
        waited = asyncio.get_running_loop().time() - began
        if not behind:
            return waited
        assert waited < seconds_max, f"still behind after {seconds_max} s: {behind}, {status}"
        await asyncio.sleep(0.2)
