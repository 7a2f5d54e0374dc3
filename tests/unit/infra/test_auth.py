"""Tokens: which are believed, which are not, and what their roles allow."""

import asyncio
import base64
import hmac
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from infra.auth import (
    DEVELOPMENT_ISSUER,
    Authenticator,
    Principal,
    issue_development_token,
    make_authenticator,
)
from infra.auth_claims import ClaimRules
from infra.auth_keys import FETCH_SECONDS_MIN, KEY_FILE, DevelopmentKey, IssuerKeys, IssuerUnavailable
from infra.settings import Settings
from schemas.errors import BadDefinition, TenantRequired, Unauthenticated

ISSUER = "https://issuer.test"
RSA = RSAKey.generate_key(2048, {"kid": "one"})
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "two"})


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(_env_file=None, data_dir=folder, **given)


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


def claims(**changes: Any) -> dict[str, Any]:
    said = {
        "iss": ISSUER,
        "aud": "everfold",
        "sub": "ann",
        "exp": int(time.time()) + 600,
        "tenant": "acme",
        "roles": ["clerk"],
    } | changes
    return {name: value for name, value in said.items() if value is not ...}


def signed(said: dict[str, Any], *, key: Any = RSA, alg: str = "RS256", **header: Any) -> bytes:
    return bearer(jwt.encode({"alg": alg, "kid": key.kid, **header}, said, key, algorithms=[alg]))


class Issuer:
    """An OpenID provider that counts what it is asked."""

    def __init__(self, *keys: Any) -> None:
        self.keys: list[Any] = list(keys)
        self.asked = 0
        self.is_away = False
        self.now = 1_000.0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.is_away:
            raise httpx2.ConnectError("away")
        if request.url.path.endswith("openid-configuration"):
            self.asked += 1
            return httpx2.Response(200, json={"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"})
        return httpx2.Response(200, json={"keys": [key.as_dict(private=False) for key in self.keys]})

    def authenticator(self) -> Authenticator:
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer))
        keys = IssuerKeys(ISSUER, https_only=True, client=client, clock=lambda: self.now)
        return Authenticator(keys, ClaimRules(ISSUER, "everfold"))


async def test_a_token_of_the_development_issuer_says_who_asks(tmp_path: Path) -> None:
    configured = settings(tmp_path)
    token = issue_development_token(configured, tenant="acme", roles=["clerk", "viewer"], subject="ann")
    principal = await make_authenticator(configured).authenticate(bearer(token))
    assert principal == Principal("acme", "ann", ("clerk", "viewer"))


async def test_a_token_without_a_tenant_is_the_platforms(tmp_path: Path) -> None:
    configured = settings(tmp_path)
    token = issue_development_token(configured, tenant=None, roles=["operator"])
    principal = await make_authenticator(configured).authenticate(bearer(token))
    assert principal.may("operator")
    assert not principal.may("clerk")
    with pytest.raises(TenantRequired, match="tenant claim"):
        principal.tenant_or_refuse("clerk")


def test_roles_allow_what_they_name_and_admin_all_in_its_tenant() -> None:
    clerk, admin = Principal("acme", "ann", ("clerk",)), Principal("acme", "ann", ("admin", "operator"))
    assert clerk.may("clerk")
    assert not clerk.may("warehouse")
    assert admin.may("clerk")
    assert admin.may("quality")
    assert not admin.may("system")
    assert not admin.may("operator")
    assert Principal.system("workflow:x", "acme").may("system")


def test_whoever_asks_first_makes_the_key_and_all_get_the_same(tmp_path: Path) -> None:
    kept: list[str | None] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        kept.append(DevelopmentKey.in_folder(tmp_path / "new").sign({"a": 1}).split(".")[0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 8
    assert len(set(kept)) == 1
    assert (tmp_path / "new" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == [KEY_FILE]


def test_the_development_issuer_is_refused_where_it_would_be_a_hole(tmp_path: Path) -> None:  # S09
    for given in ({"mode": "production"}, {"host": "0.0.0.0"}):
        with pytest.raises(BadDefinition, match="OIDC_ISSUER"):
            make_authenticator(settings(tmp_path, **given))
    with pytest.raises(BadDefinition):
        issue_development_token(settings(tmp_path, oidc_issuer=ISSUER), tenant="acme", roles=["x"])
    with pytest.raises(BadDefinition):
        IssuerKeys("http://issuer.test", https_only=True)


@pytest.mark.parametrize(
    "header",
    [None, b"", b"Bearer", b"Bearer ", b"Basic abc", b"Bearer a.b", b"Bearer a.b.c", b"Bearer a.b.c.d.e",
     b"Bearer " + b"x" * 9_000, b"Bearer \xff.\xff.\xff"],
)  # fmt: skip
async def test_what_is_no_token_is_not_believed(header: bytes | None, tmp_path: Path) -> None:  # S01, S06
    with pytest.raises(Unauthenticated):
        await make_authenticator(settings(tmp_path)).authenticate(header)


def unsigned(said: dict[str, Any], **header: Any) -> bytes:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return bearer(f"{part(header)}.{part(said)}.{part('x')}")


def hs256_with_public_key(said: dict[str, Any]) -> bytes:
    """The classic: the public key's text as the secret; by hand, since the library refuses to make it."""
    forged = unsigned(said, alg="HS256", kid="one").removeprefix(b"Bearer ").rpartition(b".")[0]
    mark = hmac.digest(RSA.as_pem(private=False), forged, "sha256")
    return b"Bearer " + forged + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")


ATTACKS: dict[str, Callable[[], bytes]] = {
    "no algorithm": lambda: unsigned(claims(), alg="none"),
    "no algorithm, other case": lambda: unsigned(claims(), alg="nOnE"),
    "public key as a secret": lambda: hs256_with_public_key(claims()),
    "another key": lambda: signed(claims(), key=RSAKey.generate_key(2048, {"kid": "one"})),
    "a key in the header": lambda: signed(claims(), jwk=RSA.as_dict(private=False)),
    "an address in the header": lambda: unsigned(claims(), alg="RS256", jku="https://evil.test", kid="one"),
    "critical header": lambda: unsigned(claims(), alg="RS256", crit=["x"], x=1, kid="one"),
    "key id that is none": lambda: unsigned(claims(), alg="RS256", kid={"a": 1}),
    "key id that is too long": lambda: unsigned(claims(), alg="RS256", kid="x" * 4_000),
    "ID token type": lambda: signed(claims(), typ="id_token"),
    "another issuer": lambda: signed(claims(iss="https://other.test")),
    "the development issuer": lambda: signed(claims(iss=DEVELOPMENT_ISSUER)),
    "another audience": lambda: signed(claims(aud=["other"])),
    "no audience": lambda: signed(claims(aud=...)),
    "an ID token": lambda: signed(claims(nonce="x")),
    "expired": lambda: signed(claims(exp=int(time.time()) - 120)),
    "never expires": lambda: signed(claims(exp=...)),
    "expires in text": lambda: signed(claims(exp="9999999999")),
    "expires true": lambda: signed(claims(exp=True)),
    "expires absurdly late": lambda: signed(claims(exp=10**400)),
    "not valid yet": lambda: signed(claims(nbf=int(time.time()) + 600)),
    "issued in the future": lambda: signed(claims(iat=int(time.time()) + 600)),
    "no subject": lambda: signed(claims(sub=...)),
    "subject with control characters": lambda: signed(claims(sub="a\nb")),
    "tenant that is no id": lambda: signed(claims(tenant="../acme")),
    "tenant that is a list": lambda: signed(claims(tenant=["acme"])),
    "roles that are a number": lambda: signed(claims(roles=7)),
    "too many roles": lambda: signed(claims(roles=[str(number) for number in range(500)])),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_forged_and_misused_tokens_are_not_believed(attack: Callable[[], bytes]) -> None:  # S02 to S05
    issuer = Issuer(RSA)
    authenticator = issuer.authenticator()
    assert (await authenticator.authenticate(signed(claims()))).subject == "ann"
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(attack())


async def test_duplicate_claims_are_not_believed() -> None:  # S04
    payload = json.dumps(claims()).replace('"sub": "ann"', '"sub": "ann", "sub": "root"').encode()
    token = jws.serialize_compact({"alg": "RS256", "kid": "one"}, payload, RSA, algorithms=["RS256"])
    with pytest.raises(Unauthenticated):
        await Issuer(RSA).authenticator().authenticate(bearer(token))


async def test_a_token_is_verified_once_and_forgotten_when_it_expires() -> None:
    issuer = Issuer(RSA)
    now = time.time()
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(issuer.answer))
    keys = IssuerKeys(ISSUER, https_only=True, client=client)
    authenticator = Authenticator(keys, ClaimRules(ISSUER, "everfold"), now=lambda: now)
    token = signed(claims(exp=int(now) + 100))
    assert await authenticator.authenticate(token) is await authenticator.authenticate(token)
    now += 200
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token)


async def test_made_up_key_ids_cost_one_request_in_a_while_and_a_new_key_works_soon() -> None:  # S07
    issuer = Issuer(RSA)
    authenticator = issuer.authenticator()
    await authenticator.authenticate(signed(claims()))
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(unsigned(claims(), alg="RS256", kid=f"made-up-{number}"))
    assert issuer.asked <= 2
    issuer.keys = [RSA, OTHER_RSA]
    issuer.now += FETCH_SECONDS_MIN + 1
    assert (await authenticator.authenticate(signed(claims(), key=OTHER_RSA))).subject == "ann"


async def test_an_issuer_that_is_away_harms_only_those_whose_key_is_not_known() -> None:  # S07
    issuer = Issuer(RSA)
    authenticator = issuer.authenticator()
    await authenticator.authenticate(signed(claims()))
    issuer.is_away = True
    issuer.now += 3_600
    assert (await authenticator.authenticate(signed(claims(sub="bob")))).subject == "bob"
    fresh = Issuer(RSA)
    fresh.is_away = True
    with pytest.raises(IssuerUnavailable):
        await fresh.authenticator().authenticate(signed(claims()))


async def test_many_who_come_at_once_fetch_the_keys_once() -> None:
    issuer = Issuer(RSA)
    authenticator = issuer.authenticator()
    tokens = [signed(claims(sub=f"s{number}")) for number in range(20)]
    await asyncio.gather(*(authenticator.authenticate(token) for token in tokens))
    assert issuer.asked == 1


async def test_claims_map_to_tenant_and_roles_as_configured() -> None:
    rules = ClaimRules(
        ISSUER, "everfold", "org.id", "realm_access.roles", {"Lager": "warehouse", "Chef": "admin"}
    )
    said = claims(
        tenant=..., roles=..., org={"id": "acme"}, realm_access={"roles": ["Lager", "Unknown", "system"]}
    )
    assert rules.tenant(said) == "acme"
    assert rules.roles(said) == ("warehouse",)
    assert ClaimRules(ISSUER, "everfold").roles(claims(roles="clerk system viewer")) == ("clerk", "viewer")


async def test_keys_of_other_kinds_of_signature_work() -> None:
    key = ECKey.generate_key("P-256", {"kid": "ec"})
    authenticator = Issuer(RSA, key).authenticator()
    assert (await authenticator.authenticate(signed(claims(), key=key, alg="ES256"))).tenant == "acme"
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(unsigned(claims(), alg="RS256", kid="ec"))
