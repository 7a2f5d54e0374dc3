"""
Where the keys that verify tokens come from: the development issuer's file, or an OpenID provider.

Only the configured issuer is asked, over a connection that follows no redirects, and an unknown key id makes
it be asked again at most once in `FETCH_SECONDS_MIN`: a flood of made-up key ids costs one request.
"""

import asyncio
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2
import jiter
import orjson
from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, KeySet

from infra.secret_file import write_secret_once
from infra.telemetry import log
from schemas.errors import BadDefinition, Unauthenticated, Unavailable

FETCH_SECONDS_MIN = 30.0
KEYS_SECONDS_MAX = 600.0
FETCH_TIMEOUT_SECONDS = 5.0
DOCUMENT_BYTES_MAX = 1024 * 1024
KEY_FILE = "development-issuer.jwk"
DEVELOPMENT_ALGORITHM = "ES256"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class IssuerUnavailable(Unavailable):
    """The token issuer's keys cannot be had at the moment."""


class Keys(Protocol):
    """Keys that can tell whether a token is its issuer's."""

    async def verified_payload(self, token: str, header: Mapping[str, Any]) -> bytes:
        """
        Return the bytes of a token's claims.

        Raises:
            Unauthenticated: The signature is not the issuer's.
            IssuerUnavailable: No keys have been seen yet, and the issuer is away.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


def _payload(token: str, key: Key | KeySet, algorithm: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # EdDSA is still what many issuers call Ed25519
        try:
            return jws.deserialize_compact(token, key, algorithms=[algorithm]).payload
        except (JoseError, ValueError, TypeError) as error:
            raise Unauthenticated("the token's signature does not hold") from error


class DevelopmentKey:
    """The development issuer's one key, kept in the data directory for its owner alone."""

    def __init__(self, key: ECKey) -> None:
        self._key = key

    @classmethod
    def in_folder(cls, folder: Path) -> "DevelopmentKey":
        """Return the key in a folder; the first who asks makes it, and all who ask get the same."""
        path = folder / KEY_FILE
        if not path.exists():
            key = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8)})
            write_secret_once(path, orjson.dumps(key.as_dict(private=True)))
        return cls(ECKey.import_key(jiter.from_json(path.read_bytes())))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token with these claims."""
        header = {"alg": DEVELOPMENT_ALGORITHM, "kid": self._key.kid, "typ": "at+jwt"}
        return jwt.encode(header, dict(claims), self._key, algorithms=[DEVELOPMENT_ALGORITHM])

    async def verified_payload(self, token: str, header: Mapping[str, Any]) -> bytes:
        """Return the bytes of a token's claims once its signature holds."""
        return _payload(token, self._key, DEVELOPMENT_ALGORITHM)

    async def close(self) -> None:
        """Nothing is held."""


class IssuerKeys:
    """The keys that an OpenID provider publishes: discovered, kept, and fetched again when they may have changed."""

    def __init__(
        self,
        issuer: str,
        *,
        https_only: bool,
        client: httpx2.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer, self._https_only, self._clock = issuer, https_only, clock
        _check_url(issuer, https_only=https_only)
        self._client = client or httpx2.AsyncClient(timeout=FETCH_TIMEOUT_SECONDS, follow_redirects=False)
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def verified_payload(self, token: str, header: Mapping[str, Any]) -> bytes:
        """Return the bytes of a token's claims once its signature holds."""
        key = await self._key(header.get("kid"), str(header["alg"]))
        return _payload(token, key, str(header["alg"]))

    async def close(self) -> None:
        """Close the connections to the issuer."""
        await self._client.aclose()

    async def _key(self, key_id: str | None, algorithm: str) -> Key:
        if self._clock() - self._fetched_at > KEYS_SECONDS_MAX:
            await self._fetch()
        key = self._find(key_id, algorithm)
        if key is None:
            await self._fetch()
            key = self._find(key_id, algorithm)
        if key is None:
            if self._keys is None:
                raise IssuerUnavailable
            raise Unauthenticated("the token's key is not one of the issuer's")
        return key

    def _find(self, key_id: str | None, algorithm: str) -> Key | None:
        """Return the named key, or the only one of its kind where the token names none."""
        family = {"E": "EC", "R": "RSA", "P": "RSA"}[algorithm[0]] if algorithm[:2] != "Ed" else "OKP"
        fitting = [
            key
            for key in (self._keys.keys if self._keys else ())
            if key.key_type == family
            and key.as_dict(private=False).get("use", "sig") == "sig"
            and key.as_dict(private=False).get("alg", algorithm) == algorithm
            and (key_id is None or key.kid == key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch(self) -> None:
        asked = self._clock()
        async with self._fetching:
            if self._tried_at >= asked or self._clock() - self._tried_at < FETCH_SECONDS_MIN:
                return
            self._tried_at = self._clock()
            try:
                discovered = await self._document(
                    f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
                )
                if discovered.get("issuer") != self._issuer:
                    raise ValueError("the discovered issuer is another one")
                address = str(discovered["jwks_uri"])
                _check_url(address, https_only=self._https_only)
                self._keys = KeySet.import_key_set(await self._document(address))  # type: ignore[arg-type]  # checked by it
                self._fetched_at = self._clock()
            except (httpx2.HTTPError, JoseError, BadDefinition, LookupError, ValueError, TypeError) as error:
                log.warning("issuer's keys not fetched", issuer=self._issuer, error=str(error))

    async def _document(self, address: str) -> dict[str, Any]:
        async with self._client.stream("GET", address) as response:
            response.raise_for_status()
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > DOCUMENT_BYTES_MAX:
                    raise ValueError(f"more than {DOCUMENT_BYTES_MAX} bytes from {address}")
        value = jiter.from_json(body)
        if not isinstance(value, dict):
            raise ValueError(f"no JSON object from {address}")
        return value


def _check_url(address: str, *, https_only: bool) -> None:
    parts = urlsplit(address)
    plain_is_fine = not https_only and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and plain_is_fine)):
        raise BadDefinition("EVERFOLD_OIDC_ISSUER", f"{address} must be an https address")
