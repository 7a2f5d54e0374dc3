"""
What a token says, read with suspicion: the header before anything is verified, the claims after.

Claims have the types that the standards give them or the token is refused; a claim of the wrong type is not
read as its absence.
"""

import binascii
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jiter

from infra.settings import Settings
from schemas.errors import BadDefinition, Invalid, Unauthenticated

ALGORITHMS = ("ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "Ed25519", "EdDSA")
"""Signatures only: a shared secret would let every verifier sign."""
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
LEEWAY_SECONDS = 30
ROLES_MAX = 100
SUBJECT_CHARACTERS_MAX = 255
KEY_ID_CHARACTERS_MAX = 256

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUBJECT = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{SUBJECT_CHARACTERS_MAX}}}")


def split_token(token: bytes) -> tuple[bytes, bytes, bytes]:
    """
    Return a compact signature's three parts.

    Raises:
        Unauthenticated: It has not three; five would be an encrypted token, which nobody sends us.
    """
    parts = token.split(b".")
    if len(parts) != 3 or not all(parts):
        raise Unauthenticated("the token is not a signed JWT")
    return parts[0], parts[1], parts[2]


def read_header(token: bytes, rules: "ClaimRules") -> dict[str, Any]:
    """
    Return a token's header, once nothing in it tries to change how the token is verified.

    Raises:
        Unauthenticated
    """
    header = read_payload(_decode(split_token(token)[0]))
    if smuggled := {"crit", "jwk", "jku", "x5u", "x5c", "b64", "enc", "zip"} & header.keys():
        raise Unauthenticated(f"the token's header must not have {', '.join(sorted(smuggled))}")
    if header.get("alg") not in rules.algorithms:
        raise Unauthenticated("the token's algorithm is not accepted")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in rules.types:
        raise Unauthenticated("the token is not an access token")
    key_id = header.get("kid")
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= KEY_ID_CHARACTERS_MAX):
        raise Unauthenticated("the token's key id is not one")
    return header


def read_payload(data: bytes) -> dict[str, Any]:
    """
    Return a JSON object with distinct members.

    Raises:
        Unauthenticated
    """
    try:
        value = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise Unauthenticated("the token is not well formed") from error
    if not isinstance(value, dict):
        raise Unauthenticated("the token is not well formed")
    return value


def _decode(part: bytes) -> bytes:
    try:
        return urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated("the token is not well formed") from error


@dataclass(frozen=True)
class ClaimRules:
    """What claims must say, and where tenant and roles stand in them."""

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    roles_claim: str = "roles"
    role_map: Mapping[str, str] = field(default_factory=dict)
    """Roles by claim value; empty: the values are the roles."""
    algorithms: frozenset[str] = frozenset(ALGORITHMS)
    types: frozenset[str] = TYPES

    @classmethod
    def from_settings(cls, settings: Settings, *, development_issuer: str) -> "ClaimRules":
        """
        Return the rules of the configured issuer, or of the development issuer where none is.

        Raises:
            BadDefinition: `EVERFOLD_OIDC_ROLE_MAP` is not pairs.
        """
        return cls(
            settings.oidc_issuer or development_issuer,
            settings.oidc_audience,
            settings.oidc_tenant_claim,
            settings.oidc_roles_claim,
            parse_role_map(settings.oidc_role_map),
            frozenset({"ES256"}) if settings.development_issuer else frozenset(ALGORITHMS),
            frozenset({"at+jwt"}) if settings.development_issuer else TYPES,
        )

    def check_times(self, claims: Mapping[str, Any], *, now: float) -> float:
        """
        Return when the token expires, its leeway included.

        Raises:
            Unauthenticated: It has expired, is not valid yet, or does not say.
        """
        expires = _time(claims, "exp")
        if expires is None:
            raise Unauthenticated("the token does not say when it expires")
        if now >= expires + LEEWAY_SECONDS:
            raise Unauthenticated("the token has expired")
        for name in ("nbf", "iat"):
            begins = _time(claims, name)
            if begins is not None and now < begins - LEEWAY_SECONDS:
                raise Unauthenticated("the token is not valid yet")
        return expires + LEEWAY_SECONDS

    def check_names(self, claims: Mapping[str, Any]) -> None:
        """
        Insist on issuer and audience.

        Raises:
            Unauthenticated
        """
        if claims.get("iss") != self.issuer:
            raise Unauthenticated("the token is another issuer's")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self.audience not in audiences or not all(isinstance(name, str) for name in audiences):
            raise Unauthenticated("the token is for another audience")
        if "nonce" in claims or "at_hash" in claims:
            raise Unauthenticated("the token is an ID token, not an access token")

    def subject(self, claims: Mapping[str, Any]) -> str:
        """Return whom the token is about."""
        subject = claims.get("sub")
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise Unauthenticated("the token names no subject")
        return subject

    def tenant(self, claims: Mapping[str, Any]) -> str | None:
        """Return the tenant; None for a platform token."""
        tenant = _claim(claims, self.tenant_claim)
        if tenant is None:
            return None
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise Unauthenticated("the token's tenant is not a valid id")
        return tenant

    def roles(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the roles, mapped where there is a map; values that it does not know give nothing."""
        value = _claim(claims, self.roles_claim)
        values = value.split() if isinstance(value, str) else [] if value is None else value
        if (
            not isinstance(values, list)
            or len(values) > ROLES_MAX
            or not all(isinstance(role, str) and _SUBJECT.fullmatch(role) for role in values)
        ):
            raise Unauthenticated("the token's roles are not a list of names")
        if self.role_map:
            values = [self.role_map[role] for role in values if role in self.role_map]
        return tuple(sorted({role for role in values if role != "system"}))


def check_tenant(tenant: str) -> None:
    """
    Insist that a tenant's name is an id.

    Raises:
        Invalid
    """
    if not _TENANT.fullmatch(tenant):
        said = "must be 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
        raise Invalid([{"pointer": "tenant", "message": said}])


def parse_role_map(text: str) -> dict[str, str]:
    """
    Return `claim value=role` pairs as a mapping.

    Raises:
        BadDefinition: One is not a pair.
    """
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        value, separator, role = part.rpartition("=")
        if not separator or not value or not role:
            raise BadDefinition("EVERFOLD_OIDC_ROLE_MAP", f"{part!r} is not `claim value=role`")
        pairs[value.strip()] = role.strip()
    return pairs


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, or by a path of names with dots between (`realm_access.roles`)."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        if name in claims:
            raise Unauthenticated(f"the token's {name} is not a time")
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or abs(value) > 1e12
        or not math.isfinite(value)
    ):
        raise Unauthenticated(f"the token's {name} is not a time")
    return float(value)
