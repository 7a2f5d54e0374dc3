"""
The settings of a process: `EVERFOLD_…` variables or a `.env` file, checked at start. See contract.md, section 3.

Every variable may also be given as `…_FILE`, the path of a file that holds the value. Parts of the system take
the values they need, not this object, except where a process is put together.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from infra.database_roles import Part, role_of
from schemas.errors import BadDefinition

PREFIX = "EVERFOLD_"
Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What a process is told at start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    mode: Literal["development", "production"] = "development"
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")] = "everfold"
    domains: Names = ("supply",)
    store_url: SecretStr | None = None
    read_url: SecretStr | None = None
    replica_urls: Names = ()
    database_roles: Literal["assumed", "accounts"] = "assumed"
    """Whether connections take their least-privileged role, or accounts log in that have one each."""
    archive_url: SecretStr | None = None
    """Where old events are archived: `file:///a/folder`, or an Azure container's address; unset: nothing is."""
    archive_key: SecretStr | None = None
    """The Azure account's key, where the address has no signature of its own."""
    broker_url: SecretStr = SecretStr("log")
    redis_url: SecretStr | None = None
    data_dir: Path = Path(".everfold")
    command_port: Annotated[int, Field(ge=0, le=65535)] = 8001
    query_port: Annotated[int, Field(ge=0, le=65535)] = 8002
    health_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    host: str = "127.0.0.1"
    partitions: Annotated[int, Field(ge=1, le=1024)] = 8
    database_connections: Annotated[int, Field(ge=4)] = 48
    """How many connections all projectors together, and all workflow processes, use for their work (governor.py)."""
    fold_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Over how many processes of its own a projector splits large pages by key; 1: it folds them itself."""
    build_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Over how many processes of its own a replay spreads the partitions; 1: it folds them itself."""
    oidc_issuer: str | None = None
    oidc_audience: str = "everfold"
    oidc_tenant_claim: str = "tenant"
    oidc_roles_claim: str = "roles"
    oidc_role_map: str = ""
    """`claim value=role` pairs, comma-separated; unset: the claim's values are the roles."""
    cors_origins: Names = ()
    trusted_proxies: Names = ()
    idempotency_hours: Annotated[int, Field(ge=24)] = 24
    rate_limit: Annotated[float, Field(gt=0)] | None = None
    """Requests a second that one caller may send to one process of the command API; unset: no limit."""
    live_streams_per_subject: Annotated[int, Field(gt=0)] = 200
    """Live streams that one subject may keep open on one process of the query API."""
    live_streams_per_tenant: Annotated[int, Field(gt=0)] = 5_000
    live_streams: Annotated[int, Field(gt=0)] = 10_000
    """Live streams of all tenants together on one process."""
    drift_sweep_seconds: Annotated[float, Field(ge=0)] = 86_400
    """In how long every live row is compared with its fold once; 0: not at all."""
    heads: Path | None = None
    """A folder outside the database where signed heads are kept: a log that lacks what they name is not served."""
    heads_key: SecretStr | None = None
    """The private key that chain heads are signed with; in development one is made in the data directory."""
    heads_public_keys: str | None = None
    """The keys that signed heads are checked with, besides that of `heads_key`: one, or several after a change."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    channels_file: Path | None = None
    """Where messages to the outside world go (TOML); unset: nowhere."""
    master_key_file: Path | None = None
    """Master keys that the keys of persons are wrapped with; unset: in development a file in the data directory."""
    master_key_vault: str | None = None
    """Instead of a file: the address of a key in Azure Key Vault."""
    erasures_dir: Path | None = None
    """Where erasures are written down outside of the databases."""
    otlp_endpoint: str | None = None
    """Where spans go (OTLP over HTTP); unset: no spans are made."""

    @field_validator("domains", "replica_urls", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @model_validator(mode="after")
    def _store_and_read(self) -> "Settings":
        if self.store_url and len(self.store_urls) > 1:
            named = sorted(partition for part in self.store_urls for partition in part)
            if named != list(range(self.partitions)):
                raise ValueError(
                    f"EVERFOLD_STORE_URL must name each partition from 0 to {self.partitions - 1} once "
                    f"(EVERFOLD_PARTITIONS is {self.partitions}); it names {named}"
                )
            if self.read_url is None:
                raise ValueError(
                    "EVERFOLD_READ_URL is required when EVERFOLD_STORE_URL names several servers"
                )
        if self.master_key_file is not None and self.master_key_vault is not None:
            raise ValueError("EVERFOLD_MASTER_KEY_FILE and EVERFOLD_MASTER_KEY_VAULT exclude each other")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take given values first, then variables, then `…_FILE`s, then `.env`."""
        return init_settings, env_settings, _FileVariables(settings_cls), dotenv_settings

    @property
    def store_urls(self) -> Mapping[range, str]:
        """The log's servers by range of partitions; one range over all where one URL is given."""
        text = self.store_url.get_secret_value() if self.store_url else ""
        if not re.match(r"\s*\d+-\d+=", text):
            return {range(self.partitions): text}
        urls: dict[range, str] = {}
        for part in re.split(r",\s*(?=\d+-\d+=)", text):  # an address may hold commas of its own
            bounds, _, url = part.partition("=")
            first, last = map(int, bounds.split("-"))
            if range(first, last + 1) in urls:
                raise ValueError(f"EVERFOLD_STORE_URL names the partitions {bounds} twice")
            urls[range(first, last + 1)] = url.strip()
        return urls

    @property
    def read_url_or_store(self) -> str:
        """The server of the read tables: the log's own unless another is named."""
        return self.read_url.get_secret_value() if self.read_url else next(iter(self.store_urls.values()))

    def role_of(self, part: Part) -> str | None:
        """Return the database role that a part's connections take; None: their account has it."""
        return role_of(self.namespace, part, self.database_roles)

    @property
    def uses_broker(self) -> bool:
        """Whether a broker is configured, rather than followers tailing the log."""
        return self.broker_url.get_secret_value() != "log"

    @property
    def development_issuer(self) -> bool:
        """Whether tokens come from the development issuer."""
        return self.oidc_issuer is None


class _FileVariables(PydanticBaseSettingsSource):
    """Values from the files that `EVERFOLD_…_FILE` variables name."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        return (Path(path).read_text().strip() if path else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def load_settings(**given: Any) -> Settings:
    """
    Return the settings of this process.

    Raises:
        BadDefinition: A variable has a value that cannot be used; it names the variable.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = (
            PREFIX + "_".join(str(part).upper() for part in first["loc"][:1])
            if first["loc"]
            else "EVERFOLD_*"
        )
        raise BadDefinition(name, first["msg"]) from error
