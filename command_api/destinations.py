"""
Which address a webhook goes to, looked at after its name is resolved.

The operator writes a name, and whoever owns that name says where it leads: to this machine, to a neighbour that trusts
everybody inside, to the cloud's metadata service. So a name must lead to a public address, unless the channel says that
its receiver is `private`; and what was looked at is what is connected to. An address that the operator wrote as numbers
is taken as it is. Link-local addresses are never called.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NotAllowed(Exception):
    """A name leads where nothing is sent."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, those to be tried first before others."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


async def address_of(host: str, port: int, *, private: bool, resolver: Resolve = resolve) -> str:
    """
    Return the address to connect to for a host, as numbers.

    Raises:
        NotAllowed: It leads to no address that may be called.
        OSError: The name cannot be resolved.
    """
    written = as_address(host)
    if written is not None:
        if never(written):
            raise NotAllowed(f"{host} is a link-local address")
        return str(written)
    addresses = [ip_address(text.partition("%")[0]) for text in await resolver(host, port)]
    for address in addresses:
        if not never(address) and (private or _innermost(address).is_global):
            return str(address)
    raise NotAllowed(f"{host} leads to no public address, and the channel is not `private`")


def as_address(host: str) -> Address | None:
    """Return a host that is written as numbers as an address."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def never(address: Address) -> bool:
    """Say whether nothing is ever sent to an address."""
    inner = _innermost(address)
    return inner.is_link_local or inner.is_multicast or inner.is_unspecified


def _innermost(address: Address) -> Address:
    """Return the address that packets go to in the end, where one is written inside of another."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address
