"""The reference domain's commands: `import orders` and `demo`."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from client.supply.demo import run_demo
from client.supply.importing import import_file
from infra.auth import issue_development_token
from infra.settings import Settings, load_settings
from schemas.errors import BadDefinition

DEMO_TENANT = "demo"
TOKEN_TTL_SECONDS = 24 * 3600


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    importing = typer.Typer(help="Bring data in from files.", no_args_is_help=True)
    app.add_typer(importing, name="import")

    @importing.callback()
    def about() -> None:
        """Bring data in from files."""

    @importing.command("orders")
    def import_orders(
        file: Annotated[Path, typer.Argument(help="Order lines: CSV, gzip or not.")],
        mapping: Annotated[str, typer.Option(help="A shipped mapping's name, or the path of a .toml file.")],
        url: Annotated[str | None, typer.Option(help="The command API; this machine's unless given.")] = None,
        query_url: Annotated[
            str | None, typer.Option(help="The query API; on the same host unless given.")
        ] = None,
        rate: Annotated[
            float | None, typer.Option(min=0.1, help="At most so many commands a second.")
        ] = None,
        rejects: Annotated[
            Path | None, typer.Option(help="Where to write each line that was not used.")
        ] = None,
        state: Annotated[Path | None, typer.Option(help="Where to note how far it has come.")] = None,
        tenant: Annotated[
            str, typer.Option(help="Whose data it is, with the development issuer.")
        ] = DEMO_TENANT,
        as_json: Annotated[
            bool, typer.Option("--json", help="Only the summary, as one line of JSON.")
        ] = False,
    ) -> None:
        """Send a file of order lines through the HTTP API; run it again to go on after an interruption."""
        settings = load_settings()
        command_url = url or f"http://127.0.0.1:{settings.command_port}"
        targets = (command_url, query_url or query_url_beside(command_url, settings))
        done = asyncio.run(
            import_file(
                file, mapping, urls=targets, token=token_of(settings, tenant), data_dir=settings.data_dir, rate=rate,
                rejects=rejects, state=state, console=Console(stderr=True, quiet=as_json),
            )
        )  # fmt: skip
        if not as_json:
            Console(stderr=True).print(
                f"{done.used:,} of {done.lines:,} lines used, {done.rejected:,} rejected; "
                f"{done.commands:,} commands in {done.seconds:,.1f} s"
            )
        print(done.encode())

    @app.command()
    def demo(
        data: Annotated[
            Path | None, typer.Option(help="A file of order lines; generated ones unless given.")
        ] = None,
        mapping: Annotated[str | None, typer.Option(help="What its columns mean.")] = None,
        orders: Annotated[int, typer.Option(min=1, help="How many orders to generate.")] = 1_000,
        seed: Annotated[int, typer.Option(help="Of the generated orders.")] = 1,
    ) -> None:
        """Run the whole system on orders, show the dashboards, and prove that everything agrees."""
        if (data is None) != (mapping is None):
            raise BadDefinition("demo", "--data and --mapping go together")
        raise typer.Exit(
            asyncio.run(run_demo(load_settings(), data=data, mapping=mapping, orders=orders, seed=seed))
        )


def query_url_beside(command_url: str, settings: Settings) -> str:
    """Return the query API's address on the command API's host."""
    scheme, _, rest = command_url.partition("://")
    host = rest.split("/")[0].rsplit(":", 1)[0]
    return f"{scheme}://{host}:{settings.query_port}"


def token_of(settings: Settings, tenant: str) -> str:
    """Return the token from `EVERFOLD_TOKEN`, else one of the development issuer."""
    given = os.environ.get("EVERFOLD_TOKEN")
    return given or issue_development_token(
        settings, tenant=tenant, roles=("admin",), subject="importer", ttl_seconds=TOKEN_TTL_SECONDS
    )
