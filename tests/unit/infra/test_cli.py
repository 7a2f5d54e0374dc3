"""The exit status says what happened, and what was expected to go wrong is one line."""

import asyncpg
import httpx2
import psycopg
import pytest
import redis
from typer.testing import CliRunner

from infra.cli import build_app, exit_status_of, one_line
from schemas.errors import BadDefinition, Invalid, NotFound, Overloaded, StoreUnavailable, VersionMismatch


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("order X"), 1),
        (VersionMismatch("orders/X", 3), 1),
        (BadDefinition("EVERFOLD_PARTITIONS", "must be a number"), 2),
        (Invalid([{"pointer": "--roles", "message": "must name one"}]), 2),
        (FileNotFoundError(2, "No such file", "orders.csv"), 2),
        (StoreUnavailable(), 3),
        (Overloaded(7), 3),
        (ConnectionRefusedError(111, "refused"), 3),
        (TimeoutError(), 3),
        (OSError(113, "no route to host"), 3),
        (psycopg.OperationalError("connection refused"), 3),
        (asyncpg.CannotConnectNowError("starting up"), 3),
        (asyncpg.ConnectionDoesNotExistError("closed"), 3),
        (redis.ConnectionError("refused"), 3),
        (httpx2.ConnectError("refused"), 3),
    ],
)
def test_what_is_expected_to_go_wrong_has_its_status(error: Exception, status: int) -> None:
    assert exit_status_of(error) == status


@pytest.mark.parametrize(
    "error", [KeyError("x"), AssertionError(), OSError(28, "no space left"), ValueError()]
)
def test_a_fault_of_ours_has_none_and_shows_its_traceback(error: Exception) -> None:
    assert exit_status_of(error) is None


def test_an_error_is_told_on_one_line_even_if_it_has_no_words() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(TimeoutError()) == "TimeoutError"


def test_a_command_is_loaded_alone_and_keeps_its_name() -> None:
    shown = CliRunner().invoke(build_app("up"), ["up", "--help"])
    assert shown.exit_code == 0
    assert "everfold up" in shown.output


def test_using_a_command_wrongly_is_status_2() -> None:
    assert CliRunner().invoke(build_app("up"), ["up", "--no-such-option"]).exit_code == 2
