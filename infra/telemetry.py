"""
What a process tells about itself: spans (OpenTelemetry), metrics (Prometheus), and logs (one JSON line each).

Spans cost nothing without an exporter: `span` is then a null context. Trace context travels as the W3C
`traceparent` text, in headers and in event metadata.
"""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

__all__ = [
    "Counter", "Gauge", "Histogram", "current_trace_id", "current_traceparent", "log", "metrics_page", "span",
    "start_telemetry", "stop_telemetry", "trace_of",
]  # fmt: skip

log = structlog.get_logger("everfold")
_NO_SPAN = nullcontext()
_tracer: trace.Tracer | None = None
_request_trace: ContextVar[str | None] = ContextVar("everfold_traceparent", default=None)


class _ErrorOutput:
    """The error output as it is when something is written: who replaced it may have closed its own since."""

    def write(self, text: str) -> int:
        """Write to it."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Send on what was written."""
        sys.stderr.flush()


def start_telemetry(*, role: str, level: str = "INFO", otlp_endpoint: str | None = None) -> None:
    """Set up logs, and spans where there is somewhere to send them."""
    global _tracer
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=_ErrorOutput()),  # type: ignore[arg-type]  # all it uses
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": f"everfold-{role}"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
        trace.set_tracer_provider(provider)
        _tracer = trace.get_tracer("everfold")


def stop_telemetry() -> None:
    """Send what is still waiting to be sent."""
    provider = trace.get_tracer_provider()
    shutdown = getattr(provider, "shutdown", None)
    if shutdown is not None:
        shutdown()


def span(
    name: str, *, parent: str | None = None, links: tuple[str, ...] = (), **attributes: Any
) -> AbstractContextManager[Any]:
    """
    Return a span to work in; nothing where no exporter is set.

    `parent` and `links` are `traceparent` texts. Work that answers many requests links them, it has no one parent.
    """
    if _tracer is None:
        return _NO_SPAN
    context = trace.set_span_in_context(NonRecordingSpan(_context(parent))) if parent else None
    return _tracer.start_as_current_span(
        name,
        context=context,
        kind=SpanKind.INTERNAL,
        links=[trace.Link(_context(link)) for link in links],
        attributes={key: value for key, value in attributes.items() if value is not None},
    )


class _RequestTrace:
    """A block of work that is done for one request."""

    __slots__ = ("_token", "_traceparent")

    def __init__(self, traceparent: str | None) -> None:
        self._traceparent = traceparent

    def __enter__(self) -> None:
        self._token = _request_trace.set(self._traceparent)

    def __exit__(self, *_exception: object) -> None:
        _request_trace.reset(self._token)


def trace_of(traceparent: str | None) -> AbstractContextManager[None]:
    """Work on behalf of a request that came with this trace context, for logs and errors."""
    return _RequestTrace(traceparent)


def current_traceparent() -> str | None:
    """Return the trace context to pass on: the current span's, or the one that came with the request."""
    if _tracer is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return _request_trace.get()


def current_trace_id() -> str | None:
    """Return the trace's id, 32 hex digits."""
    traceparent = current_traceparent()
    return traceparent.split("-")[1] if traceparent else None


def metrics_page() -> bytes:
    """Return this process's metrics in Prometheus' text form."""
    return generate_latest(REGISTRY)


def _context(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if trace_id := current_trace_id():
        event["trace_id"] = trace_id
    return event
