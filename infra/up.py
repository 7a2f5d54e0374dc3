"""
`everfold up` on the command line; what it does is in foreground.py.

The command line of every role passes through here, so what only `up` needs is imported when it is called.
"""

from typing import Annotated

import typer
from pydantic import SecretStr

from infra.settings import Settings, load_settings
from schemas.errors import BadDefinition

RABBITMQ = "rabbitmq"


def register(app: typer.Typer) -> None:
    """Add `up` to the command line."""

    @app.command()
    def up(
        broker: Annotated[
            str | None,
            typer.Option(help="log (none), rabbitmq (the local one, else an own), or an amqp:// URL."),
        ] = None,
        end_with_parent: Annotated[
            bool, typer.Option("--end-with-parent", hidden=True, help="Stop when the starting process dies.")
        ] = False,
    ) -> None:
        """Run every role and whatever service is not configured, until Ctrl-C."""
        from infra.foreground import run_in_foreground

        run_in_foreground(settings_with_broker(broker), end_with_parent=end_with_parent)


def settings_with_broker(broker: str | None) -> Settings:
    """
    Return the settings with the asked broker; a RabbitMQ that they name stands for `rabbitmq`.

    Raises:
        BadDefinition: It is none that we know how to use.
    """
    settings = load_settings()
    if broker is None or (broker == RABBITMQ and settings.uses_broker):
        return settings
    if broker not in ("log", RABBITMQ) and not broker.startswith(("amqp://", "amqps://")):
        raise BadDefinition("--broker", f"must be log, {RABBITMQ} or an amqp:// URL, not {broker}")
    return settings.model_copy(update={"broker_url": SecretStr(broker)})
