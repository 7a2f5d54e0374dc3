"""A log on a server of its own that can be put back to an earlier state, and everything that follows it."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from command_api.workflow_app import open_workflow_process
from event_store.postgres import PostgresLog
from event_store.status import read_status
from infra.auth import issue_development_token
from infra.embedded.ports import free_port
from infra.embedded.postgres import PostgresServer
from infra.embedded.replica import PostgresReplica
from infra.embedded.server import RunningServer
from infra.settings import Settings, load_settings
from projectors.app import run_projector
from query_api.app import make_query_api, queries_of, query_api
from tests.integration.command_api.clients import TENANT, Api, api_over
from tests.toy import DOMAIN

NAMESPACE = "everfold"
SECONDS_MAX = 80.0


@dataclass
class Losable:
    """A server whose data can be put back to what it was."""

    server: RunningServer
    folder: Path
    standby: RunningServer | None = None

    @property
    def data(self) -> Path:
        """The server's data."""
        assert isinstance(self.server.server, PostgresServer)
        return self.server.server.data

    def copy(self) -> None:
        """Keep a copy of the files, as a snapshot of the disk would."""
        self.server.stop()
        subprocess.run(["cp", "-a", self.data, self.folder / "copy"], check=True)
        self.server.start()

    def restore_copy(self) -> None:
        """Put the copy in the place of the data; the timeline stays what it was."""
        self.server.stop()
        shutil.rmtree(self.data)
        (self.folder / "copy").rename(self.data)
        self.server.start()

    def leave_standby_behind(self) -> None:
        """Make a standby that follows up to here and no further."""
        assert isinstance(self.server.server, PostgresServer)
        replica = PostgresReplica(self.folder, free_port(), self.server.server)
        self.standby = RunningServer(replica)
        self.standby.start()
        self.standby.stop()

    def fail_over(self) -> None:
        """Lose the server, and have the standby take its place: promoted, and at its address."""
        assert self.standby is not None
        assert isinstance(self.standby.server, PostgresServer)
        self.server.kill()
        self.standby.start()
        promoted = self.standby.server.tool(
            "pg_ctl", "promote", "--wait", "-D", str(self.standby.server.data)
        )
        assert promoted is None, promoted
        self.standby.stop()
        shutil.rmtree(self.data)
        self.standby.server.data.rename(self.data)
        self.server.start()

    def prepare(self, how: str) -> None:
        """Get ready to lose what comes from here on."""
        self.copy() if how == "restore" else self.leave_standby_behind()

    def lose(self, how: str) -> None:
        """Lose what came since."""
        self.restore_copy() if how == "restore" else self.fail_over()


@dataclass
class System:
    """The toy domain's processes over a log, all in this process."""

    settings: Settings
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @asynccontextmanager
    async def commands(self) -> AsyncIterator[Api]:
        """Run a command API, with caches of its own."""
        assert self.settings.store_url is not None
        async with api_over(self.settings.store_url.get_secret_value(), self.settings.data_dir) as api:
            yield api

    @asynccontextmanager
    async def projector(self) -> AsyncIterator[None]:
        """Run a projector."""
        stop = asyncio.Event()
        task = asyncio.create_task(run_projector(self.settings, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, SECONDS_MAX)

    @asynccontextmanager
    async def workflows(self) -> AsyncIterator[None]:
        """Run the workflows."""
        stop = asyncio.Event()
        async with open_workflow_process(self.settings, {}) as process:
            task = asyncio.create_task(process.run(stop))
            try:
                yield
            finally:
                stop.set()
                await asyncio.wait_for(task, SECONDS_MAX)

    @asynccontextmanager
    async def queries(self) -> AsyncIterator["Reader"]:
        """Run a query API."""
        async with query_api(self.settings) as made:
            api = make_query_api(made.parts, queries_of([DOMAIN]))
            transport = httpx2.ASGITransport(app=api.edge)
            token = issue_development_token(
                self.settings, tenant=TENANT, roles=["viewer", "clerk"], subject="x"
            )
            headers = {"authorization": f"Bearer {token}"}
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://queries", headers=headers, timeout=30
            ) as http:
                yield Reader(http)

    async def status(self) -> dict[str, Any]:
        """Return what `everfold status` says."""
        async with (
            PostgresLog(self.settings.store_urls, NAMESPACE) as log,
            asyncpg.create_pool(self.settings.read_url_or_store, min_size=1, max_size=1) as pool,
        ):
            return await read_status(log, pool, NAMESPACE, uses_broker=False)

    async def followed(self) -> None:
        """Wait until every consumer has taken up all that the log has."""

        async def all_there() -> bool:
            status = await self.status()
            places = [*status["projections"], *status["workflows"]]
            return bool(places) and not any(place["lag_events"] or place["waiting_for"] for place in places)

        await until(all_there)

    async def told(self, kind: str) -> str:
        """Wait until a consumer of a kind says why it stands still, and return its words."""
        words: list[str] = []

        async def said() -> bool:
            words[:] = [one["waiting_for"] for one in (await self.status())[kind] if one["waiting_for"]]
            return bool(words)

        await until(said)
        return words[0]


@dataclass
class Reader:
    """A client of the query API."""

    http: httpx2.AsyncClient

    async def balance(self, account: str = "A", token: str | None = None) -> int | str | None:
        """Return what an account holds; None for none, else the problem's type."""
        headers = {} if token is None else {"everfold-position": token, "prefer": "wait=0"}
        response = await self.http.get(f"/v1/accounts/{account}", headers=headers)
        if response.status_code == 200:
            return int(response.json()["balance_cents"])
        return None if response.status_code == 404 else str(response.json()["type"])

    async def listed(self) -> dict[str, int] | str:
        """Return what every account holds, by the list."""
        response = await self.http.get("/v1/accounts")
        if response.status_code != 200:
            return str(response.json()["type"])
        return {item["account_id"]: item["balance_cents"] for item in response.json()["items"]}


async def until(holds: Any, seconds: float = SECONDS_MAX) -> None:
    """Wait until something holds, through whatever is away meanwhile."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError):
                if await holds():
                    return
            await asyncio.sleep(0.05)


def system_over(store_url: str, read_url: str, redis_url: str | None, folder: Path) -> System:
    """Return the settings of a system of the toy domain."""
    given: dict[str, Any] = {} if redis_url is None else {"redis_url": redis_url}
    return System(
        load_settings(
            _env_file=None, store_url=store_url, read_url=read_url, data_dir=folder, domains="toy",
            broker_url="log", **given,
        )
    )  # fmt: skip
