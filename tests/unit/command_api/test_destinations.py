"""Where webhooks' names lead: looked at after they are resolved. # S34"""

from collections.abc import Sequence

import pytest

from command_api.destinations import NotAllowed, address_of

PUBLIC, INSIDE = "93.184.215.14", "10.0.0.7"
NOT_PUBLIC = (
    INSIDE, "127.0.0.1", "172.16.9.9", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.7", "2002:a00:7::"
)  # fmt: skip
NEVER = (
    "169.254.169.254",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "2002:a9fe:a9fe::",
    "0.0.0.0",
    "224.0.0.1",
)


async def lead(*addresses: str, private: bool = False, host: str = "erp.example") -> str:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    return await address_of(host, 443, private=private, resolver=resolver)


async def test_a_name_leads_to_its_first_public_address() -> None:
    assert await lead(PUBLIC) == PUBLIC
    assert await lead(INSIDE, PUBLIC) == PUBLIC


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_a_name_that_leads_inside_needs_a_private_channel(address: str) -> None:
    with pytest.raises(NotAllowed, match=r"erp\.example"):
        await lead(address)
    assert await lead(address, private=True)


@pytest.mark.parametrize("address", NEVER)
async def test_some_addresses_are_never_called(address: str) -> None:
    with pytest.raises(NotAllowed):
        await lead(address, private=True)
    with pytest.raises(NotAllowed):
        await lead(host=address.partition("%")[0], private=True)


async def test_an_address_in_numbers_is_the_operators_own_word() -> None:
    assert await lead(host=INSIDE) == INSIDE
    assert await lead(host="::1") == "::1"


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "017700000001"])
async def test_numbers_in_disguise_are_names(host: str) -> None:
    """What resolvers make of them is looked at like any other name."""
    with pytest.raises(NotAllowed):
        await lead("127.0.0.1", host=host)
