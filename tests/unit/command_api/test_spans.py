"""Spans over request, batch and append, and the trace that events carry on."""

from pathlib import Path

import httpx2
import orjson
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from command_api.app import make_command_api
from event_store.memory import MemoryLog
from infra import telemetry
from infra.auth import issue_development_token
from infra.settings import Settings


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where finished spans go."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    return kept


@pytest.mark.parametrize("traceparent", [None, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
async def test_a_request_is_one_trace_from_its_caller_to_its_events(
    exporter: InMemorySpanExporter, tmp_path: Path, traceparent: str | None
) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, domains=("toy",))
    log = MemoryLog()
    api = make_command_api(settings, log)
    token = issue_development_token(settings, tenant="acme", roles=["clerk"])
    headers = {"Authorization": f"Bearer {token}"} | ({"traceparent": traceparent} if traceparent else {})
    transport = httpx2.ASGITransport(app=api.edge)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x.test", headers=headers) as http:
        assert (await http.post("/v1/accounts/A/open", json={"owner": "Ann"})).status_code == 200
    await api.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request, batch, append = spans["http request"], spans["pipeline batch"], spans["append"]
    assert request.context is not None
    assert batch.context is not None
    assert append.parent is not None
    assert append.parent.span_id == batch.context.span_id
    assert [link.context.span_id for link in batch.links] == [request.context.span_id]
    if traceparent:
        assert f"{request.context.trace_id:032x}" in traceparent
    else:
        assert request.parent is None
    (event,) = [event async for event in log.read_stream("acme", "accounts/A")]
    carried = orjson.loads(event.metadata)["traceparent"]
    assert carried.startswith(f"00-{request.context.trace_id:032x}-{request.context.span_id:016x}-")
