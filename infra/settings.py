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
    broker_url: SecretStr = SecretStr("log")
    redis_url: SecretStr | None = None
    data_dir: Path = Path(".everfold")
    command_port: Annotated[int, Field(ge=0, le=65535)] = 8001
    query_port: Annotated[int, Field(ge=0, le=65535)] = 8002
    health_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    host: str = "127.0.0.1"
    partitions: Annotated[int, Field(ge=1, le=1024)] = 8
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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
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
        if self.store_url and len(self.store_urls) > 1 and self.read_url is None:
            raise ValueError("EVERFOLD_READ_URL is required when EVERFOLD_STORE_URL names several servers")
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
        if not re.match(r"\d+-\d+=", text):
            return {range(self.partitions): text}
        urls = {}
        for part in text.split(","):
            first, last, url = re.fullmatch(r"(\d+)-(\d+)=(.+)", part.strip()).groups()  # type: ignore[union-attr]  # checked by the line above for the first; a bad later one is a TypeError named at start
            urls[range(int(first), int(last) + 1)] = url
        return urls

    @property
    def read_url_or_store(self) -> str:
        """The server of the read tables: the log's own unless another is named."""
        return self.read_url.get_secret_value() if self.read_url else next(iter(self.store_urls.values()))

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
