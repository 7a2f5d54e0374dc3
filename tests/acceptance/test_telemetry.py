"""What a running system tells: spans of one request over all roles, metrics of every role, logs with its trace."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from infra.system import RunningSystem
from tests.queues import tidy_system
from tests.system import http_of, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
EXPORT_SECONDS_MAX = 30.0


@dataclass
class Collector:
    """An OTLP endpoint that remembers spans: their names, and the traces that they belong to or link."""

    url: str = ""
    spans: list[tuple[str, str, frozenset[str]]] = field(default_factory=list)

    def names(self, trace: str) -> set[str]:
        """Return the names of the spans that belong to a trace or link it."""
        return {name for name, own, linked in self.spans if trace == own or trace in linked}

    def take(self, body: bytes) -> None:
        """Remember what an exporter sent."""
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    links = frozenset(link.trace_id.hex() for link in span.links)
                    self.spans.append((span.name, span.trace_id.hex(), links))


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(collector: Collector, broker_url: str, services_folder: Path) -> AsyncIterator[RunningSystem]:
    """A system with every role, on the toy domain, that sends its spans to the collector."""
    settings = settings_for(
        services_folder / "telemetry", broker_url=broker_url, domains=("toy",), otlp_endpoint=collector.url
    )
    async with tidy_system(settings) as running:
        yield running


async def send(system: RunningSystem, account: str) -> None:
    """Open an account under the trace."""
    async with http_of(system.command_url, system.token()) as commands:
        opened = await commands.post(
            f"/v1/accounts/{account}/open", json={"owner": "Ada"}, headers={"traceparent": TRACEPARENT}
        )
    assert opened.status_code == 200, opened.text


async def test_one_requests_trace_is_seen_in_every_role(told: RunningSystem, collector: Collector) -> None:
    await send(told, "A1")
    expected = {"http request", "pipeline batch", "append", "relay.publish", "projector.apply"}
    async with asyncio.timeout(EXPORT_SECONDS_MAX):
        while not expected <= {name for name, _, _ in collector.spans}:
            await asyncio.sleep(0.2)
    assert {"http request", "pipeline batch"} <= collector.names(TRACE)


async def test_every_role_answers_probes_and_shows_its_metrics(told: RunningSystem) -> None:
    await send(told, "A2")
    for role in told.ports:
        async with http_of(told.url_of(role), told.token()) as http:
            assert (await http.get("/livez")).status_code == 200, role
            assert (await http.get("/readyz")).status_code == 200, role
            metrics = await http.get("/metrics")
        assert metrics.status_code == 200, role
        assert "everfold_" in metrics.text, role


async def test_an_errors_log_line_and_document_name_its_trace(told: RunningSystem) -> None:
    async with http_of(told.command_url, told.token()) as commands:
        answer = await commands.post(
            "/v1/accounts/nobody/withdraw", json={"cents": 1}, headers={"traceparent": TRACEPARENT}
        )
    assert answer.status_code == 404
    assert answer.json()["trace_id"] == TRACE


async def test_what_roles_log_is_one_json_object_a_line(told: RunningSystem) -> None:
    logs = await asyncio.to_thread(lambda: sorted((told.settings.data_dir / "logs").glob("*.log")))
    assert {"command-api.log", "projector.log"} <= {log.name for log in logs}
    for log in logs:
        if log.stem in told.ports:
            whole, _, _ = log.read_text().rpartition("\n")  # the role writes on
            for line in whole.splitlines():
                assert line.startswith("{"), f"{log.name}: {line}"
                assert isinstance(json.loads(line), dict), f"{log.name}: {line}"
