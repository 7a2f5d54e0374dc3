"""
The command line, put together from what each package registers under the entry point `everfold.cli`.

`infra` imports none of the packages that stand on it, so every entry point names a `register(app)`, and a
domain may bring commands of its own in a `cli` module. The exit status says what happened: 0 it holds,
1 it does not, 2 used wrongly, 3 could not find out because something is away. What is expected to go wrong
is one line on the error output; a traceback is a fault of ours.
"""

import errno
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

import typer

from infra.domains import LAYERS, Domain, load_domains
from infra.open_files import allow_open_files
from infra.settings import load_settings
from schemas.errors import BadDefinition, Invalid, MalformedRequest, ServiceError, Unavailable

GROUP = "everfold.cli"
DOES_NOT_HOLD, USED_WRONGLY, COULD_NOT_FIND_OUT, INTERRUPTED = 1, 2, 3, 130
USAGE_ERRORS = (
    BadDefinition,
    Invalid,
    MalformedRequest,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
)
CONNECTION_FAILURES = frozenset(
    {
        "asyncpg.PostgresConnectionError",
        "asyncpg.CannotConnectNowError",
        "asyncpg.AdminShutdownError",
        "asyncpg.InvalidCatalogNameError",
        "asyncpg.InvalidAuthorizationSpecificationError",
        "asyncpg.TooManyConnectionsError",
        "httpx2.TransportError",
        "psycopg.OperationalError",
        "redis.ConnectionError",
        "redis.TimeoutError",
        "aiormq.AMQPConnectionError",
    }
)


def build_app(command: str | None = None) -> typer.Typer:
    """
    Return the command line: the whole of it, or, where an entry point bears the command's name, that part.

    A role is a process of its own, and is up in half the time when it imports no other's code.
    """
    app = typer.Typer(
        name="everfold",
        help="An event-sourced backend: commands, an append-only log, projections, queries.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)  # with one command alone Typer would do without its name
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if command in entries:
        entries[command].load()(app)
        return app
    for _, entry in sorted({entry.value: entry for entry in entries.values()}.items()):
        entry.load()(app)
    for domain in load_domains(load_settings().domains):
        for layer in LAYERS:
            _register_domain(app, domain, layer)
    return app


def _register_domain(app: typer.Typer, domain: Domain, layer: str) -> None:
    name = f"{domain.modules.get(layer, f'{layer}.{domain.name}')}.cli"
    try:
        found = find_spec(name)
    except ModuleNotFoundError:  # the domain has nothing in this layer, or keeps it in one module
        return
    if found is not None:
        import_module(name).register(app)


def main() -> None:
    """Run one command and leave with its exit status."""
    allow_open_files()
    try:
        build_app(sys.argv[1] if len(sys.argv) > 1 else None)()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        status = exit_status_of(error)
        if status is None:
            raise
        print(f"everfold: {one_line(error)}", file=sys.stderr)
        sys.exit(status)


def exit_status_of(error: BaseException) -> int | None:
    """Return the exit status that an error means; None for one that nobody expected."""
    match error:
        case Unavailable():
            return COULD_NOT_FIND_OUT
        case ServiceError() if error.status >= 500 and not isinstance(error, BadDefinition):
            return COULD_NOT_FIND_OUT
        case error if isinstance(error, USAGE_ERRORS):
            return USED_WRONGLY
        case ServiceError():
            return DOES_NOT_HOLD
        case ConnectionError() | TimeoutError():
            return COULD_NOT_FIND_OUT
        case error if _is_connection_failure(error):
            return COULD_NOT_FIND_OUT
        case _:
            return None


def _is_connection_failure(error: BaseException) -> bool:
    """Say whether a driver says that its server is away; drivers are not imported to find out."""
    names = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return not names.isdisjoint(CONNECTION_FAILURES) or (
        isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
    )


def one_line(error: BaseException) -> str:
    """Return what an error says on one line."""
    said = " ".join(str(error).split())
    return said or type(error).__name__


if __name__ == "__main__":
    main()
