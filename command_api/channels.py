"""
Where messages to the outside world go: channels, in a file that the operator alone writes (`EVERFOLD_CHANNELS_FILE`).

No address ever comes from a command, an event or a tenant, so nobody who may only send commands can have this system
call a server of their choice. A workflow names a channel; the file says what that is, for all tenants or for one:

    [[channel]]
    name = "order-approvals"
    webhook = "https://erp.example/hooks/everfold"
    secrets_file = "/run/secrets/everfold-webhook"      # whsec_…, a line each; the message is signed with all of them

    [[channel]]
    name = "order-approvals"
    tenant = "clinic-a"
    mail_to = "purchasing@clinic-a.example"
    mail_from = "everfold@example.org"
    smtp = "smtps://everfold@mail.example:465"          # or smtp+starttls://
    smtp_password_file = "/run/secrets/smtp"
"""

import tomllib
from base64 import b64decode
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from command_api.destinations import as_address, never
from infra.unsafe_settings import is_local
from schemas.errors import BadDefinition
from schemas.messages import Id

VARIABLE = "EVERFOLD_CHANNELS_FILE"
RETRY_SECONDS = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400)
"""How long after each failed attempt the next is made: twelve attempts over some fifty hours."""
SECRET_PREFIX = "whsec_"
SECRET_OCTETS_MIN, SECRET_OCTETS_MAX = 24, 64
SMTP_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


class Channel(BaseModel):
    """One place that messages go to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
    tenant: Id | None = None
    """Whose messages go here; unset: those of all tenants that have no channel of this name for themselves."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 10.0
    at_once: Annotated[int, Field(ge=1, le=100)] = 8
    retry_seconds: Annotated[tuple[Annotated[float, Field(gt=0, le=604_800)], ...], Field(max_length=50)] = (
        RETRY_SECONDS
    )

    webhook: str | None = None
    private: bool = False
    """Whether the webhook's name may lead to an address that is not public."""
    ca_file: Path | None = None
    """Whom to believe about the webhook's certificate; unset: whom this machine believes."""
    secrets: tuple[SecretStr, ...] = ()
    secrets_file: Path | None = None

    mail_to: str | None = None
    """One address, so that a message is either taken or not; a mailing list reaches several people."""
    mail_from: str | None = None
    smtp: SecretStr | None = None
    smtp_password_file: Path | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Channel":
        if (self.webhook is None) == (self.mail_to is None):
            raise ValueError("needs either `webhook` or `mail_to`")
        if self.webhook is not None:
            parts = urlsplit(self.webhook)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError("`webhook` must be an http(s) address without a user")
            if (written := as_address(parts.hostname)) is not None and never(written):
                raise ValueError("`webhook` must not be a link-local address")
            if not self.keys():
                raise ValueError("a webhook needs `secrets` or `secrets_file`: messages are always signed")
        else:
            if self.mail_from is None or self.smtp is None:
                raise ValueError("mail needs `mail_from` and `smtp`")
            server = self.mail_server()
            if server.scheme not in SMTP_PORTS or not server.hostname:
                raise ValueError("`smtp` must be smtps://, smtp+starttls:// or smtp:// and a server")
        return self

    def keys(self) -> Sequence[bytes]:
        """Return the keys that webhooks are signed with."""
        written = [secret.get_secret_value() for secret in self.secrets]
        if self.secrets_file is not None:
            written += filter(None, map(str.strip, self.secrets_file.read_text().splitlines()))
        return [_key_of(secret) for secret in written]

    def mail_server(self) -> SplitResult:
        """Return the mail server's address, taken apart."""
        return urlsplit(self.smtp.get_secret_value() if self.smtp else "")

    def mail_password(self) -> str | None:
        """Return the password to give to the mail server."""
        if self.smtp_password_file is not None:
            return self.smtp_password_file.read_text().strip()
        password = self.mail_server().password
        return None if password is None else unquote(password)

    def is_plaintext(self) -> bool:
        """Say whether anybody on the way could read what goes there."""
        address = self.webhook or (self.smtp.get_secret_value() if self.smtp else "")
        return urlsplit(address).scheme in ("http", "smtp") and not is_local(address)

    @property
    def attempts_max(self) -> int:
        """After how many attempts a message is given up."""
        return len(self.retry_seconds) + 1


class Channels:
    """All channels, by name and tenant."""

    def __init__(self, channels: Sequence[Channel] = ()) -> None:
        self._by_place: Mapping[tuple[str, str | None], Channel] = {
            (one.name, one.tenant): one for one in channels
        }

    def routes(self, told: Collection[str]) -> Mapping[tuple[str, str | None], Channel | None]:
        """
        Return where messages go, by name and tenant, None standing for all other tenants.

        Of the names that workflows tell, one that nobody has routed is there too, and goes nowhere: None.
        """
        return {**{(name, None): None for name in sorted(told)}, **self._by_place}


def read_channels(path: Path | None, mode: Literal["development", "production"] = "development") -> Channels:
    """
    Return the channels that the operator's file states; none without a file.

    Raises:
        BadDefinition: It does not say what it should, or a production system would send in plaintext.
    """
    if path is None:
        return Channels()
    try:
        written: dict[str, Any] = tomllib.loads(path.read_text())
        channels = [Channel(**one) for one in written.pop("channel", [])]
    except (OSError, ValidationError, ValueError, TypeError) as error:
        raise BadDefinition(VARIABLE, f"{path}: {_words(error)}") from error
    if written:
        raise BadDefinition(VARIABLE, f"{path}: holds {sorted(written)}; only `[[channel]]` is known")
    places = [(one.name, one.tenant) for one in channels]
    if twice := [place for place in places if places.count(place) > 1]:
        raise BadDefinition(
            VARIABLE, f"{path}: channel {twice[0][0]} stands there twice for the same tenants"
        )
    if mode == "production" and (open_ := [one.name for one in channels if one.is_plaintext()]):
        raise BadDefinition(
            VARIABLE, f"{path}: channel {open_[0]} would send in plaintext: use https or smtps"
        )
    return Channels(channels)


def _words(error: Exception) -> str:
    """Return what is wrong, without the values: one of them may be a secret."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'channel'}: {first['msg']}"
    return str(error)


def _key_of(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raise ValueError("a secret is `whsec_` and base64") from None
    if not SECRET_OCTETS_MIN <= len(key) <= SECRET_OCTETS_MAX:
        raise ValueError(f"a secret has {SECRET_OCTETS_MIN} to {SECRET_OCTETS_MAX} octets")
    return key
