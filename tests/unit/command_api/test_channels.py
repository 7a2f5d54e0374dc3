"""The operator's file of channels: what it may say, and that its secrets stay its own."""

from pathlib import Path

import pytest

from command_api.channels import VARIABLE, Channel, read_channels
from schemas.errors import BadDefinition

SECRET = "whsec_" + "QUFB" * 10
WEBHOOK = f'[[channel]]\nname = "a"\nwebhook = "https://erp.example/hooks"\nsecrets = ["{SECRET}"]\n'
MAIL = '[[channel]]\nname = "a"\nmail_to = "a@b.example"\nmail_from = "c@d.example"\nsmtp = "smtps://m.example"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "channels.toml"
    path.write_text(text)
    return path


def channel_of(folder: Path, text: str) -> Channel:
    (channel,) = read_channels(written(folder, text), "production").routes(()).values()
    assert channel is not None
    return channel


def test_without_a_file_what_is_told_goes_nowhere() -> None:
    assert read_channels(None).routes(["b", "a"]) == {("a", None): None, ("b", None): None}


def test_a_tenants_own_channel_stands_beside_that_of_the_others(tmp_path: Path) -> None:
    own = WEBHOOK.replace('name = "a"', 'name = "a"\ntenant = "t"').replace("erp.", "t.")
    routes = read_channels(written(tmp_path, WEBHOOK + own)).routes(["a"])
    assert {place: channel and channel.webhook for place, channel in routes.items()} == {
        ("a", None): "https://erp.example/hooks",
        ("a", "t"): "https://t.example/hooks",
    }


def test_secrets_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(f"{SECRET}\n\n{SECRET[:-4]}QUFC\n")
    text = WEBHOOK.replace(f'secrets = ["{SECRET}"]', f'secrets_file = "{secrets}"')
    assert channel_of(tmp_path, text).keys() == [b"A" * 30, b"AAA" * 9 + b"AAB"]


def test_mail_takes_its_port_and_password_from_the_address(tmp_path: Path) -> None:
    channel = channel_of(tmp_path, MAIL.replace("smtps://m", "smtps://me:s%40cret@m"))
    assert (channel.mail_server().hostname, channel.mail_password()) == ("m.example", "s@cret")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (WEBHOOK.replace("https:", "ftp:"), "http(s) address"),
        (WEBHOOK.replace("//erp", "//user:pw@erp"), "without a user"),
        (WEBHOOK.replace("erp.example", "169.254.169.254"), "link-local"),
        (WEBHOOK.replace("erp.example", "[::ffff:169.254.169.254]"), "link-local"),
        (WEBHOOK.replace(SECRET, "whsec_c2hvcnQ="), "24 to 64 octets"),
        (WEBHOOK.replace(SECRET, "whsec_!!!"), "base64"),
        (WEBHOOK.replace(f'secrets = ["{SECRET}"]', ""), "always signed"),
        (WEBHOOK + 'mail_to = "a@b.example"\n', "either"),
        ('[[channel]]\nname = "a"\n', "either"),
        (MAIL.replace("smtps", "pop"), "smtp"),
        (WEBHOOK + "spam = 1\n", "spam"),
        (WEBHOOK + WEBHOOK, "twice"),
        ("[[channels]]\n", "only `[[channel]]`"),
        ("channel = 7", "int"),
        ("{", "Invalid"),
    ],
    ids=str,
)
def test_what_it_must_not_say(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadDefinition, match=r"channels\.toml") as refused:
        read_channels(written(tmp_path, text))
    said = str(refused.value)
    assert VARIABLE in said
    assert problem in said
    assert SECRET not in said


@pytest.mark.parametrize("text", [WEBHOOK.replace("https", "http"), MAIL.replace("smtps", "smtp")])
def test_production_sends_nothing_in_plaintext_to_another_machine(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadDefinition, match="plaintext"):
        read_channels(written(tmp_path, text), "production")
    here = text.replace("erp.example", "127.0.0.1").replace("//m.example", "//127.0.0.1")
    assert read_channels(written(tmp_path, here), "production").routes(())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDefinition, match=r"nowhere\.toml"):
        read_channels(tmp_path / "nowhere.toml")
