"""Which settings are unsafe by themselves: whose tokens are believed, and links that anybody could read."""

from typing import Any

import pytest
from pydantic import SecretStr

from infra.settings import Settings
from infra.unsafe_settings import findings_in, is_local, place_of

STORE = "postgresql://app:secret@db.example/everfold"
SAFE: dict[str, Any] = {
    "store_url": SecretStr(f"{STORE}?sslmode=verify-full"),
    "oidc_issuer": "https://issuer.example",
    "redis_url": SecretStr("rediss://cache.example:6380/0"),
    "broker_url": SecretStr("amqps://mq.example/"),
}


def findings(**changed: Any) -> list[str]:
    given = {name: SecretStr(value) if name.endswith("_url") else value for name, value in changed.items()}
    return [str(finding) for finding in findings_in(Settings(**(SAFE | given)), verifies_tokens=True)]


def test_settings_as_they_should_be_are_safe() -> None:
    assert findings() == []
    assert findings(broker_url="log") == []


@pytest.mark.parametrize("mode", ["", "?sslmode=prefer", "?sslmode=allow", "?sslmode=disable"])
def test_a_database_that_may_be_reached_in_plaintext_is_unsafe(mode: str) -> None:
    (finding,) = findings(store_url=STORE + mode)
    assert finding.startswith("EVERFOLD_STORE_URL reaches db.example in plaintext")
    assert "sslmode=verify-full" in finding
    assert "secret" not in finding


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_database_that_is_reached_encrypted_is_safe(mode: str) -> None:
    assert findings(store_url=f"{STORE}?sslmode={mode}") == []


def test_the_drivers_own_variable_counts_where_the_address_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    assert findings(store_url=STORE) == []
    assert len(findings(store_url=f"{STORE}?sslmode=disable")) == 1


def test_every_server_is_looked_at_and_its_variable_named() -> None:
    found = findings(
        store_url=f"0-3={STORE},4-7=postgresql://app@other.example/everfold?sslmode=require",
        read_url="postgresql://app@read.example/everfold",
        replica_urls=("postgresql://app@replica.example/everfold",),
    )
    assert [finding.split()[0] for finding in found] == [
        "EVERFOLD_REPLICA_URLS", "EVERFOLD_READ_URL", "EVERFOLD_STORE_URL",
    ]  # fmt: skip


def test_redis_and_the_broker_need_tls_too() -> None:
    assert "rediss://" in findings(redis_url="redis://:secret@cache.example:6379/0")[0]
    assert "amqps://" in findings(broker_url="amqp://user:secret@mq.example/")[0]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app@127.0.0.1:5432/x", "postgresql://app@localhost/x", "postgresql://app@[::1]:5432/x",
        "postgresql:///x?host=/run/postgresql", "postgresql://app@127.3.2.1,localhost:5433/x",
        "redis://localhost:6379", "postgresql://app@%2Frun%2Fpostgresql/x",
    ],
)  # fmt: skip
def test_links_that_stay_on_this_machine_need_none(url: str) -> None:
    assert is_local(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app@127.0.0.1.example/x", "postgresql://app@localhost,db.example/x",
        "postgresql://localhost@db.example/x", "postgresql://app@[::2]:5432/x",
        "postgresql://app@localhost/x?host=db.example", "redis://10.0.0.1",
    ],
)  # fmt: skip
def test_links_to_other_machines_are_not_taken_for_such(url: str) -> None:
    assert not is_local(url)


def test_only_who_verifies_tokens_cares_who_signs_them() -> None:
    assert "EVERFOLD_OIDC_ISSUER" in findings(oidc_issuer=None)[0]
    assert "https" in findings(oidc_issuer="http://issuer.example")[0]
    assert findings_in(Settings(**(SAFE | {"oidc_issuer": None}))) == []


def test_a_place_is_named_without_what_lets_in() -> None:
    assert place_of("postgresql://app:p%40ss@a.example:1,b.example:2/x") == "a.example:1,b.example:2"
