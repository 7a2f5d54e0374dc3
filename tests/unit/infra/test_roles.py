"""What a system's processes are told, and which of them there are."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.roles import environment_of, roles_of
from infra.settings import Settings
from infra.up import settings_with_broker
from schemas.errors import BadDefinition


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EVERFOLD_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)  # where there is no .env file


def test_what_a_process_is_told_gives_it_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        namespace="other",
        domains=("supply", "toy"),
        store_url=SecretStr("0-3=postgresql://a/b,4-7=postgresql://c/d"),
        read_url=SecretStr("postgresql://e/f"),
        replica_urls=("postgresql://g/h", "postgresql://i/j"),
        data_dir=Path("/somewhere/else"),
        command_port=0,
        partitions=8,
        oidc_issuer="https://issuer.example",
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_there_is_a_relay_only_where_there_is_a_broker() -> None:
    assert "relay" not in roles_of(Settings())
    assert "relay" in roles_of(Settings(broker_url=SecretStr("amqp://localhost")))


def test_the_asked_broker_comes_before_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERFOLD_BROKER_URL", "amqp://configured")
    assert settings_with_broker("log").broker_url.get_secret_value() == "log"
    assert settings_with_broker("amqp://asked").broker_url.get_secret_value() == "amqp://asked"
    assert settings_with_broker(None).broker_url.get_secret_value() == "amqp://configured"


def test_rabbitmq_means_the_configured_one_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_with_broker("rabbitmq").broker_url.get_secret_value() == "rabbitmq"
    monkeypatch.setenv("EVERFOLD_BROKER_URL", "amqp://configured")
    assert settings_with_broker("rabbitmq").broker_url.get_secret_value() == "amqp://configured"


def test_a_broker_of_another_kind_is_refused() -> None:
    with pytest.raises(BadDefinition, match="kafka"):
        settings_with_broker("kafka://somewhere")
