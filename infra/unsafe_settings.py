"""
Settings that would lie in production: what they seem to promise does not hold.

Here is what the settings themselves tell; what a database server says of itself is asked for in
`event_store/startup.py`. A link is plaintext where anybody on the way could read or change what goes over it; links
that stay on this machine (loopback, sockets) are not, so a sidecar may do the encrypting.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from infra.settings import PREFIX, Settings
from schemas.errors import BadDefinition

LOOPBACK = frozenset({"localhost", "::1", "[::1]", ""})
ENCRYPTED_SSLMODES = frozenset({"require", "verify-ca", "verify-full"})
_LOOPBACK_V4 = re.compile(r"127(\.\d{1,3}){3}")


class Finding(NamedTuple):
    """One thing that is unsafe, and what to do about it."""

    variable: str
    problem: str
    is_local: bool = False
    """Whether it concerns this machine alone, as everything on a laptop does."""

    def __str__(self) -> str:
        return f"{self.variable} {self.problem}"


@dataclass(eq=False)
class UnsafeSettings(BadDefinition):
    """A production process does not start on settings that would lie."""

    findings: Sequence[Finding] = ()

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> "UnsafeSettings":
        """Return the error that lists all findings."""
        listed = "; ".join(f"({number}) {finding}" for number, finding in enumerate(findings, 1))
        return cls(f"{PREFIX}MODE=production", f"does not start on these settings: {listed}", findings)


def findings_in(settings: Settings, *, verifies_tokens: bool = False) -> list[Finding]:
    """Return what is unsafe in settings; only who verifies tokens cares whose they are."""
    return [*(_issuer(settings) if verifies_tokens else ()), *_plaintext(settings)]


def _issuer(settings: Settings) -> Iterator[Finding]:
    variable = f"{PREFIX}OIDC_ISSUER"
    if settings.oidc_issuer is None:
        problem = "is not set, so anybody who reads the data directory signs tokens: name your issuer"
        yield Finding(variable, problem, is_local=True)
    elif urlsplit(settings.oidc_issuer).scheme != "https":
        yield Finding(variable, "is not https, so its keys could be anybody's: name its https address")


def _plaintext(settings: Settings) -> Iterator[Finding]:
    for variable, url in database_urls(settings):
        if not _is_encrypted_postgres(url):
            problem = (
                f"reaches {place_of(url)} in plaintext: "
                "add sslmode=verify-full (or require, where the network is trusted not to pretend)"
            )
            yield Finding(variable, problem)
    redis = settings.redis_url.get_secret_value() if settings.redis_url else ""
    if urlsplit(redis).scheme == "redis" and not is_local(redis):
        yield Finding(f"{PREFIX}REDIS_URL", f"reaches {place_of(redis)} in plaintext: use rediss://")
    broker = settings.broker_url.get_secret_value()
    if urlsplit(broker).scheme == "amqp" and not is_local(broker):
        yield Finding(f"{PREFIX}BROKER_URL", f"reaches {place_of(broker)} in plaintext: use amqps://")


def database_urls(settings: Settings) -> list[tuple[str, str]]:
    """Return the addresses of all PostgreSQL servers with the variables that name them, each once."""
    urls = dict.fromkeys(settings.replica_urls, f"{PREFIX}REPLICA_URLS")
    if settings.read_url is not None:
        urls[settings.read_url.get_secret_value()] = f"{PREFIX}READ_URL"
    if settings.store_url is not None:
        urls |= dict.fromkeys(settings.store_urls.values(), f"{PREFIX}STORE_URL")
    return [(variable, url) for url, variable in urls.items()]


def _is_encrypted_postgres(url: str) -> bool:
    modes = parse_qs(urlsplit(url).query).get("sslmode") or [os.environ.get("PGSSLMODE", "prefer")]
    return modes[-1] in ENCRYPTED_SSLMODES or is_local(url)


def is_local(url: str) -> bool:
    """Say whether every host of an address is this machine."""
    parts = urlsplit(url)
    named = parse_qs(parts.query).get("host")
    hosts = named[-1].split(",") if named else [_host(one) for one in _servers(parts.netloc)]
    return all(_is_local_host(unquote(host)) for host in hosts)


def _is_local_host(host: str) -> bool:
    return host in LOOPBACK or host.startswith("/") or _LOOPBACK_V4.fullmatch(host) is not None


def place_of(url: str) -> str:
    """Return the hosts and ports of an address; never its password."""
    return ",".join(_servers(urlsplit(url).netloc)) or "a socket"


def _servers(netloc: str) -> list[str]:
    return netloc.rpartition("@")[2].split(",")


def _host(server: str) -> str:
    return server[: server.index("]") + 1] if server.startswith("[") else server.partition(":")[0]
