"""Where log lines go: the error output of the moment, whoever had replaced it when telemetry was started."""

import io
import json
import sys

import pytest
import structlog

from infra.telemetry import start_telemetry


def test_a_line_is_written_though_the_output_of_the_start_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced, later = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", replaced)
    start_telemetry(role="test")
    logger = structlog.get_logger("of this test")
    logger.info("first")
    monkeypatch.setattr(sys, "stderr", later)
    replaced.close()
    logger.info("second")
    assert json.loads(later.getvalue())["event"] == "second"
