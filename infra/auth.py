"""
Who is asking: bearer tokens verified, and what their roles allow.

A token's claims are believed only after its signature, algorithm, issuer, audience and times are. Keys come from
the configured issuer alone, never from the token. The tenant stands in the token and nowhere else.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from infra.auth_claims import ClaimRules, check_tenant, read_header, read_payload
from infra.auth_keys import DevelopmentKey, IssuerKeys, Keys
from infra.settings import Settings
from schemas.errors import BadDefinition, Forbidden, TenantRequired, Unauthenticated

SYSTEM = "system"
ADMIN = "admin"
PLATFORM_ROLES = frozenset({"operator"})
"""Roles that only platform tokens (those without a tenant) can make use of."""
TOKEN_BYTES_MAX = 8 * 1024
VERIFIED_TOKENS_MAX = 10_000
DEVELOPMENT_ISSUER = "https://everfold.invalid/development"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, for which tenant, and as what."""

    tenant: str | None
    subject: str
    roles: tuple[str, ...] = ()
    is_system: bool = False

    @classmethod
    def system(cls, name: str, tenant: str) -> "Principal":
        """Return a part of ours that acts for a tenant, such as `workflow:fulfilment`."""
        return cls(tenant, name, (SYSTEM,), is_system=True)

    def may(self, permission: str) -> bool:
        """Say whether the roles give a permission. `admin` may do all in its tenant but what is `system`."""
        if self.is_system:
            return True
        if permission == SYSTEM:
            return False
        if permission in PLATFORM_ROLES:
            return self.tenant is None and permission in self.roles
        return self.tenant is not None and (permission in self.roles or ADMIN in self.roles)

    def require(self, permission: str) -> None:
        """
        Insist on a permission.

        Raises:
            Forbidden: The roles do not give it.
        """
        if not self.may(permission):
            is_platform = self.tenant is None and permission not in PLATFORM_ROLES
            raise TenantRequired(permission) if is_platform else Forbidden(permission)

    def tenant_or_refuse(self, permission: str) -> str:
        """
        Return the tenant.

        Raises:
            Forbidden: A platform token reaches only platform routes.
        """
        if self.tenant is None:
            raise TenantRequired(permission)
        return self.tenant


class Authenticator:
    """Verifies bearer tokens of one issuer, and remembers those that it has verified until they expire."""

    def __init__(self, keys: Keys, rules: ClaimRules, *, now: Callable[[], float] = time.time) -> None:
        self._keys, self._rules, self._now = keys, rules, now
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    async def authenticate(self, authorization: bytes | None) -> Principal:
        """
        Return who a request's Authorization header speaks for.

        Raises:
            Unauthenticated: There is no token, or not one to be believed.
            IssuerUnavailable: The issuer's keys were never seen and cannot be fetched now.
        """
        principal, _ = await self.authenticate_until(authorization)
        return principal

    async def authenticate_until(self, authorization: bytes | None) -> tuple[Principal, float]:
        """
        Return who a request's Authorization header speaks for, and until when (seconds since 1970).

        Raises:
            Unauthenticated: There is no token, or not one to be believed.
            IssuerUnavailable: The issuer's keys were never seen and cannot be fetched now.
        """
        token = _bearer(authorization)
        digest = sha256(token).digest()
        known = self._verified.get(digest)
        if known is not None:
            _, expires = known
            if self._now() < expires:
                return known
            del self._verified[digest]
        principal, expires = await self._verify(token)
        self._verified[digest] = (principal, expires)
        while len(self._verified) > VERIFIED_TOKENS_MAX:
            self._verified.popitem(last=False)
        return principal, expires

    async def _verify(self, token: bytes) -> tuple[Principal, float]:
        header = read_header(token, self._rules)
        payload = await self._keys.verified_payload(token.decode(), header)
        return self._principal(read_payload(payload))

    def _principal(self, claims: dict[str, Any]) -> tuple[Principal, float]:
        expires = self._rules.check_times(claims, now=self._now())
        self._rules.check_names(claims)
        subject = self._rules.subject(claims)
        return Principal(self._rules.tenant(claims), subject, self._rules.roles(claims)), expires

    async def close(self) -> None:
        """Give back what the keys hold."""
        await self._keys.close()


def _bearer(authorization: bytes | None) -> bytes:
    if not authorization:
        raise Unauthenticated("the Authorization header is missing")
    if len(authorization) > TOKEN_BYTES_MAX + len(b"Bearer "):
        raise Unauthenticated("the token is too long")
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise Unauthenticated("the Authorization header must be: Bearer, a space, and the token")
    return token.strip()


def make_authenticator(settings: Settings) -> Authenticator:
    """
    Return what verifies the tokens of the configured issuer.

    Raises:
        BadDefinition: The development issuer would be believed in production, or from other machines.
    """
    rules = ClaimRules.from_settings(settings, development_issuer=DEVELOPMENT_ISSUER)
    if settings.oidc_issuer is not None:
        secure = settings.mode == "production"
        return Authenticator(IssuerKeys(settings.oidc_issuer, https_only=secure), rules)
    refuse_unsafe_development(settings)
    return Authenticator(DevelopmentKey.in_folder(settings.data_dir), rules)


def refuse_unsafe_development(settings: Settings) -> None:
    """
    Insist that the development issuer is only believed on one developer's machine.

    Raises:
        BadDefinition: It would be in production, or listen to other machines.
    """
    if settings.mode == "production":
        raise BadDefinition("EVERFOLD_OIDC_ISSUER", "must name an issuer in production mode")
    if settings.host not in LOOPBACK:
        raise BadDefinition(
            "EVERFOLD_OIDC_ISSUER", f"must name an issuer where other machines can connect ({settings.host})"
        )


def issue_development_token(
    settings: Settings,
    *,
    tenant: str | None,
    roles: Iterable[str],
    subject: str = "developer",
    ttl_seconds: int = 86_400,
) -> str:
    """
    Return a token of the development issuer.

    Raises:
        BadDefinition: A real issuer is configured: it alone signs tokens then.
        Invalid: The tenant is no id.
    """
    if not settings.development_issuer:
        raise BadDefinition("EVERFOLD_OIDC_ISSUER", "is set, so tokens come from that issuer alone")
    if settings.mode == "production":
        raise BadDefinition("EVERFOLD_MODE", "is production, where there is no development issuer")
    if tenant is not None:
        check_tenant(tenant)
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": DEVELOPMENT_ISSUER,
        "aud": settings.oidc_audience,
        "sub": subject,
        "iat": now,
        "nbf": now,
        "exp": now + ttl_seconds,
        settings.oidc_roles_claim: list(roles),
    }
    if tenant is not None:
        claims[settings.oidc_tenant_claim] = tenant
    return DevelopmentKey.in_folder(settings.data_dir).sign(claims)
