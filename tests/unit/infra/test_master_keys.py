"""Master keys in a file and in a vault: what is wrapped comes back, and what is wrong is named."""

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from event_store.vault import master_keys_of
from infra import master_key_vault
from infra.master_key_file import FileMasterKeys, development_file, new_line
from infra.master_key_vault import VaultMasterKeys
from infra.master_keys import MasterKeyMissing, MasterKeysAway, Wrapped, WrongMasterKey, new_key
from infra.settings import Settings
from schemas.errors import BadDefinition

VAULT = "https://club.vault.azure.net"
KEY = f"{VAULT}/keys/everfold"
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
WHO = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": "secret"}


def encoded(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


class Vault:
    """A key vault and a token issuer as their documents describe them."""

    def __init__(self, key: str = KEY) -> None:
        self.key = key
        self.versions = {"v1": rsa.generate_private_key(65537, 2048)}
        self.tokens = 0
        self.failing: list[int] = []
        self.seen: list[str] = []

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(f"{request.method} {request.url.copy_with(query=None)}")
        if request.url.path.endswith("/oauth2/v2.0/token"):
            self.tokens += 1
            form = request.content.decode()
            assert "grant_type=client_credentials" in form
            assert "scope=https%3A%2F%2Fvault.azure.net%2F.default" in form
            return httpx2.Response(200, json={"access_token": f"token-{self.tokens}", "expires_in": 3600})
        if self.failing:
            return httpx2.Response(self.failing.pop(0))
        assert request.url.params["api-version"]
        if request.headers["authorization"] != f"Bearer token-{self.tokens}":
            return httpx2.Response(401)
        _, keys, name, *rest = request.url.path.split("/")
        assert (keys, name) == ("keys", "everfold")
        version = rest[0] if rest and rest[0].startswith("v") else max(self.versions)
        kid = f"{self.key}/{version}"
        if version not in self.versions:
            return httpx2.Response(404, json={"error": {"code": "KeyNotFound"}})
        if request.method == "GET":
            return httpx2.Response(200, json={"key": {"kid": kid, "kty": "RSA"}})
        body = json.loads(request.content)
        assert body["alg"] == "RSA-OAEP-256"
        octets, private = decoded(body["value"]), self.versions[version]
        try:
            result = (
                private.public_key().encrypt(octets, OAEP)
                if rest[-1] == "wrapkey"
                else private.decrypt(octets, OAEP)
            )
        except ValueError:
            return httpx2.Response(400, json={"error": {"code": "BadParameter"}})
        return httpx2.Response(200, json={"kid": kid, "value": encoded(result)})


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    monkeypatch.setattr(master_key_vault, "PAUSE_SECONDS", 0.0)
    return Vault()


@pytest.fixture
async def keys(vault: Vault) -> AsyncIterator[VaultMasterKeys]:
    one = VaultMasterKeys(KEY, WHO, client=client_of(vault.handle))
    yield one
    await one.close()


def client_of(handle: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.MockTransport(handle))


# -- a file --------------------------------------------------------------------------------------------


async def test_the_files_first_key_wraps_and_all_of_them_unwrap(tmp_path: Path) -> None:
    path, data_keys = tmp_path / "keys", [new_key() for _ in range(3)]
    path.write_text(f"# ours\n{new_line()}\n")
    masters = FileMasterKeys(path)
    wrapped = await masters.wrap(data_keys)
    assert all(key not in one.octets for key, one in zip(data_keys, wrapped, strict=True))
    path.write_text(f"{new_line()}\n\n{path.read_text()}")
    newer = FileMasterKeys(path)
    assert await newer.unwrap(wrapped) == data_keys
    assert await newer.current() == await masters.current() != wrapped[0].master  # it has read the file again
    later = await newer.wrap(data_keys)
    assert await masters.unwrap([*later, *wrapped]) == data_keys * 2
    path.unlink()
    assert await masters.unwrap(later) == data_keys


async def test_a_key_that_is_gone_or_another_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    line = new_line()
    path.write_text(line)
    wrapped = await FileMasterKeys(path).wrap([new_key()])
    name = line.split()[0]
    path.write_text(f"{name} {new_line().split()[1]}")
    with pytest.raises(WrongMasterKey, match=name):
        await FileMasterKeys(path).unwrap(wrapped)
    path.write_text(new_line())
    with pytest.raises(MasterKeyMissing, match=name):
        await FileMasterKeys(path).unwrap(wrapped)


@pytest.mark.parametrize("text", ["", "# none", "name", "name c2hvcnQ=", "name !!", "a b c", "TWICE"])
def test_a_file_without_usable_keys_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{(line := new_line())}\n{line}" if text == "TWICE" else text)
    with pytest.raises(BadDefinition, match="keys"):
        FileMasterKeys(path)
    with pytest.raises(BadDefinition, match="cannot be read"):
        FileMasterKeys(tmp_path / "absent")


async def test_processes_that_make_the_development_key_together_have_the_same(tmp_path: Path) -> None:
    paths = await asyncio.gather(*(asyncio.to_thread(development_file, tmp_path / "data") for _ in range(20)))
    assert len({path.read_text() for path in paths}) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["master-key"]
    assert paths[0].stat().st_mode & 0o777 == 0o600


# -- a vault -------------------------------------------------------------------------------------------


async def test_the_vault_wraps_with_its_newest_version_and_unwraps_with_all(
    keys: VaultMasterKeys, vault: Vault
) -> None:
    data_keys = [new_key() for _ in range(20)]
    wrapped = await keys.wrap(data_keys)
    assert {one.master for one in wrapped} == {f"{KEY}/v1"} == {await keys.current()}
    vault.versions["v2"] = rsa.generate_private_key(65537, 2048)
    assert await keys.current() == f"{KEY}/v2"
    assert await keys.unwrap(wrapped) == data_keys
    assert vault.tokens == 1


async def test_the_vault_is_spoken_to_over_http(vault: Vault) -> None:
    """The same over a real connection, as the interface's documents have it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = f"http://{self.headers['host']}{self.path}"
            answer = vault.handle(httpx2.Request(self.command, url, content=body, headers=dict(self.headers)))
            self.send_response(answer.status_code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    vault.key = f"{address}/keys/everfold"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        keys = VaultMasterKeys(vault.key, WHO | {"AZURE_AUTHORITY_HOST": f"{address}/"})
        data_keys = [new_key() for _ in range(5)]
        wrapped = await keys.wrap(data_keys)
        assert {one.master for one in wrapped} == {await keys.current()} == {f"{vault.key}/v1"}
        assert await keys.unwrap(wrapped) == data_keys
        await keys.close()
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
    assert vault.seen[0] == f"POST {address}/tenant/oauth2/v2.0/token"


async def test_the_vault_is_asked_again_when_it_is_busy_or_the_token_is_old(
    keys: VaultMasterKeys, vault: Vault
) -> None:
    vault.failing = [503, 429]
    wrapped = await keys.wrap([bytes(32)])
    vault.failing = [401]
    assert await keys.unwrap(wrapped) == [bytes(32)]
    assert vault.tokens == 2
    vault.failing = [503] * 3
    with pytest.raises(MasterKeysAway):
        await keys.unwrap(wrapped)


async def test_what_the_vault_refuses_is_said(keys: VaultMasterKeys, vault: Vault) -> None:
    with pytest.raises(MasterKeyMissing, match="v9"):
        await keys.unwrap([Wrapped(f"{KEY}/v9", b"x")])
    with pytest.raises(WrongMasterKey):
        await keys.unwrap([Wrapped(f"{KEY}/v1", b"x" * 256)])
    vault.failing = [403]
    with pytest.raises(BadDefinition, match="refuses"):
        await keys.wrap([bytes(32)])


async def test_a_key_elsewhere_is_never_asked_for(keys: VaultMasterKeys, vault: Vault) -> None:
    for master in ("https://evil.example/keys/everfold/v1", f"{VAULT}/keys/other/v1", "a1b2"):
        with pytest.raises(MasterKeyMissing):
            await keys.unwrap([Wrapped(master, b"x")])
    assert vault.seen == []


async def test_a_workload_identity_shows_the_token_that_stands_in_its_file(
    vault: Vault, tmp_path: Path
) -> None:
    asked: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.content.decode())
        return vault.handle(request)

    token = tmp_path / "token"
    token.write_text("federated\n")
    who = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_FEDERATED_TOKEN_FILE": str(token)}
    keys = VaultMasterKeys(KEY, who, client=client_of(handle))
    assert await keys.current() == f"{KEY}/v1"
    assert "client_assertion=federated&" in f"{asked[0]}&"
    assert "client_secret" not in asked[0]
    await keys.close()


@pytest.mark.parametrize("url", ["http://club.vault.azure.net/keys/k", "https://x/secrets/k", "k", VAULT])
def test_what_is_no_keys_address_is_refused(url: str) -> None:
    with pytest.raises(BadDefinition, match="EVERFOLD_MASTER_KEY_VAULT"):
        VaultMasterKeys(url, WHO)


@pytest.mark.parametrize("missing", list(WHO))
def test_a_vault_without_somebody_who_asks_is_refused(missing: str) -> None:
    with pytest.raises(BadDefinition, match="AZURE_"):
        VaultMasterKeys(KEY, {name: value for name, value in WHO.items() if name != missing})


# -- settings ------------------------------------------------------------------------------------------


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def test_production_refuses_to_start_without_a_master_key(tmp_path: Path) -> None:
    with pytest.raises(BadDefinition, match="EVERFOLD_MASTER_KEY_FILE"):
        master_keys_of(settings(mode="production", data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "keys"
    path.write_text(new_line())
    assert isinstance(
        master_keys_of(settings(mode="production", data_dir=tmp_path, master_key_file=path)), FileMasterKeys
    )


def test_a_file_and_a_vault_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="EVERFOLD_MASTER_KEY_VAULT"):
        settings(master_key_file=tmp_path / "keys", master_key_vault=KEY)
