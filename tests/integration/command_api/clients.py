"""A command API in this process over a PostgreSQL log, and what its clients do."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from command_api.app import CommandApi, make_command_api
from event_store.log import EventLog
from event_store.memory import MemoryLog
from event_store.postgres import PostgresLog
from infra.auth import issue_development_token
from infra.rate import RateLimiter
from infra.settings import Settings
from schemas.envelope import RecordedEvent

TENANT = "acme"
PARTITIONS = 8


def settings_for(store_url: str, folder: Path, **given: Any) -> Settings:
    """Return the settings of a process with the toy domain."""
    return Settings(_env_file=None, store_url=store_url, data_dir=folder, domains=("toy",), **given)


@dataclass
class Api:
    """A command API and a client of it."""

    api: CommandApi
    log: EventLog
    settings: Settings
    http: httpx2.AsyncClient

    def token(self, *roles: str, tenant: str | None = TENANT, subject: str = "ann") -> dict[str, str]:
        """Return the header of a caller."""
        token = issue_development_token(self.settings, tenant=tenant, roles=roles, subject=subject)
        return {"Authorization": f"Bearer {token}"}

    async def post(self, path: str, body: Any = None, *roles: str, **headers: str) -> httpx2.Response:
        """Send one command as a clerk, or with other roles."""
        sent = self.token(*(roles or ("clerk",))) | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        return await self.http.post(f"/v1/{path}", json=body if body is not None else {}, headers=sent)

    async def raw(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Send any bytes as a clerk."""
        sent = self.token("clerk") | {"Content-Type": "application/json"} | dict(headers or {})
        return await self.http.post(f"/v1/{path}", content=body, headers=sent)

    async def open(self, *accounts: str, cents: int = 0) -> None:
        """Have accounts opened, with money in them."""
        for account in accounts:
            assert (await self.post(f"accounts/{account}/open", {"owner": "Ann"})).status_code == 200
            if cents:
                assert (await self.post(f"accounts/{account}/deposit", {"cents": cents})).status_code == 200

    async def events(self, account: str = "A", *, tenant: str = TENANT) -> list[RecordedEvent]:
        """Return the events of an account."""
        return [event async for event in self.log.read_stream(tenant, f"accounts/{account}")]

    async def head(self) -> int:
        """Return how many events there are in all partitions."""
        return sum(mark.position for mark in (await self.log.heads()).values())


def command(verb: str, account: str = "A", **fields: Any) -> dict[str, Any]:
    """Return a command of a batch; a key and an expected version are given as such."""
    item: dict[str, Any] = {
        name: fields.pop(name) for name in ("idempotency_key", "expected_version") if name in fields
    }
    return {"command": f"accounts.{verb}", "id": {"account_id": account}, "data": fields, **item}


def batch(commands: Iterable[Any], **more: Any) -> dict[str, Any]:
    """Return a batch's body."""
    return {"commands": list(commands), **more}


@asynccontextmanager
async def api_over(
    store_url: str, folder: Path, *, limiter: RateLimiter | None = None, namespace: str | None = None
) -> AsyncIterator[Api]:
    """Keep a command API for a block."""
    settings = settings_for(store_url, folder)
    async with (
        PostgresLog({range(PARTITIONS): store_url}, namespace or settings.namespace) as log,
        _api_on(log, settings, limiter) as api,
    ):
        yield api


@asynccontextmanager
async def api_in_memory(folder: Path, *, limiter: RateLimiter | None = None) -> AsyncIterator[Api]:
    """Keep a command API without a database for a block, for what never gets as far as the log."""
    async with _api_on(MemoryLog(), settings_for("postgresql://nowhere", folder), limiter) as api:
        yield api


@asynccontextmanager
async def _api_on(log: EventLog, settings: Settings, limiter: RateLimiter | None) -> AsyncIterator[Api]:
    api = make_command_api(settings, log, limiter=limiter)
    transport = httpx2.ASGITransport(app=api.edge)
    async with httpx2.AsyncClient(transport=transport, base_url="http://everfold.test", timeout=60) as http:
        try:
            yield Api(api, log, settings, http)
        finally:
            await api.close()
