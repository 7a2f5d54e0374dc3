"""
Master keys in Azure Key Vault, by its REST interface: the key never leaves the vault, data keys go there and back.

A master key's id is the version's address in the vault. The token comes from Microsoft Entra: by workload identity
(`AZURE_FEDERATED_TOKEN_FILE`) or a client's secret (`AZURE_CLIENT_SECRET`). Tested against a server that speaks the
documented interface, never against Azure itself.
"""

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from infra.master_keys import MasterKeyMissing, MasterKeysAway, Wrapped, WrongMasterKey
from schemas.errors import BadDefinition

API_VERSION = "7.4"
ALGORITHM = "RSA-OAEP-256"
SCOPE = "https://vault.azure.net/.default"
AUTHORITY = "https://login.microsoftonline.com"
CALL_SECONDS_MAX = 10.0
CALLS_AT_ONCE_MAX = 16
ATTEMPTS_MAX = 3
PAUSE_SECONDS = 0.2
TOKEN_SECONDS_LEFT_MIN = 120.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LATER = (429, 500, 502, 503, 504)


class VaultMasterKeys:
    """One key of a vault, in all its versions. Keeps `infra.master_keys.MasterKeys`."""

    def __init__(
        self, key_url: str, environment: Mapping[str, str], *, client: httpx2.AsyncClient | None = None
    ) -> None:
        """
        Make a provider that connects when it is first used.

        Raises:
            BadDefinition: `key_url` is not a key's address, or the environment does not say who asks.
        """
        parts = urlsplit(key_url)
        path = parts.path.strip("/").split("/")
        is_private = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if not is_private or len(path) not in (2, 3) or path[0] != "keys":
            raise BadDefinition(
                "EVERFOLD_MASTER_KEY_VAULT", "must be a key's address: https://NAME.vault.azure.net/keys/KEY"
            )
        self._key_url = key_url.rstrip("/")
        self._prefix = f"{parts.scheme}://{parts.netloc}/{'/'.join(path[:2])}/"
        self._who = _Credentials(environment)
        self._client = client or httpx2.AsyncClient(timeout=CALL_SECONDS_MAX)
        self._gate = asyncio.Semaphore(CALLS_AT_ONCE_MAX)
        self._token, self._token_until = "", 0.0
        self._asking = asyncio.Lock()

    async def current(self) -> str:
        """Return the address of the version that wraps: the newest, unless the setting names one."""
        answer = await self._call("GET", self._key_url)
        return str(answer["key"]["kid"])

    async def wrap(self, keys: Sequence[bytes]) -> Sequence[Wrapped]:
        """Have data keys wrapped; see `MasterKeys.wrap`."""

        async def one(key: bytes) -> Wrapped:
            answer = await self._call("POST", f"{self._key_url}/wrapkey", key)
            return Wrapped(str(answer["kid"]), _decode(answer["value"]))

        return await asyncio.gather(*map(one, keys))

    async def unwrap(self, wrapped: Sequence[Wrapped]) -> Sequence[bytes]:
        """Have data keys unwrapped; see `MasterKeys.unwrap`."""

        async def one(wrapped: Wrapped) -> bytes:
            if not wrapped.master.startswith(
                self._prefix
            ):  # else the database would say where our token goes
                raise MasterKeyMissing(wrapped.master)
            answer = await self._call("POST", f"{wrapped.master}/unwrapkey", wrapped.octets, wrapped.master)
            return _decode(answer["value"])

        return await asyncio.gather(*map(one, wrapped))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _call(
        self, method: str, url: str, octets: bytes | None = None, master: str = ""
    ) -> dict[str, Any]:
        body = None if octets is None else {"alg": ALGORITHM, "value": _encode(octets)}
        async with self._gate:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                headers = {"authorization": f"Bearer {await self._bearer()}"}
                try:
                    answer = await self._client.request(
                        method, url, params={"api-version": API_VERSION}, json=body, headers=headers
                    )
                except httpx2.TransportError as error:
                    if attempt == ATTEMPTS_MAX:
                        raise MasterKeysAway from error
                else:
                    if answer.status_code == 200:
                        document: dict[str, Any] = answer.json()
                        return document
                    if answer.status_code == 401:
                        self._token_until = 0.0
                    elif answer.status_code not in LATER:
                        raise _error_of(answer, master or url)
                await asyncio.sleep(PAUSE_SECONDS * attempt)
        raise MasterKeysAway

    async def _bearer(self) -> str:
        async with self._asking:
            if self._token_until - time.monotonic() < TOKEN_SECONDS_LEFT_MIN:
                try:
                    answer = await self._client.post(self._who.url, data=self._who.form())
                except httpx2.TransportError as error:
                    raise MasterKeysAway from error
                if answer.status_code in LATER:
                    raise MasterKeysAway
                if answer.status_code != 200:
                    raise BadDefinition(
                        "AZURE_CLIENT_ID", f"Microsoft Entra gives it no token (status {answer.status_code})"
                    )
                document = answer.json()
                self._token = str(document["access_token"])
                self._token_until = time.monotonic() + float(document["expires_in"])
            return self._token


class _Credentials:
    """Who asks, from the variables that workload identity sets and other Azure programs take."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID"):
            if not environment.get(name):
                raise BadDefinition(name, "must be set beside EVERFOLD_MASTER_KEY_VAULT")
        self._token_file = environment.get("AZURE_FEDERATED_TOKEN_FILE")
        self._secret = environment.get("AZURE_CLIENT_SECRET")
        if not self._token_file and not self._secret:
            raise BadDefinition(
                "AZURE_FEDERATED_TOKEN_FILE",
                "or AZURE_CLIENT_SECRET must be set beside EVERFOLD_MASTER_KEY_VAULT",
            )
        self._client_id = environment["AZURE_CLIENT_ID"]
        authority = environment.get("AZURE_AUTHORITY_HOST", AUTHORITY).rstrip("/")
        self.url = f"{authority}/{environment['AZURE_TENANT_ID']}/oauth2/v2.0/token"

    def form(self) -> dict[str, str]:
        """Return what the token is asked for with; the federated token is read anew, as it is renewed in its file."""
        form = {"grant_type": "client_credentials", "client_id": self._client_id, "scope": SCOPE}
        if self._token_file:
            form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form["client_assertion"] = Path(self._token_file).read_text().strip()
        elif self._secret:
            form["client_secret"] = self._secret
        return form


def _error_of(answer: httpx2.Response, master: str) -> Exception:
    match answer.status_code:
        case 404:
            return MasterKeyMissing(master)
        case 403:
            return BadDefinition("EVERFOLD_MASTER_KEY_VAULT", f"the vault refuses the use of {master}")
        case 400:
            return WrongMasterKey(master)
    return MasterKeysAway()


def _encode(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
