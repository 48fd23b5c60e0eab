"""Which address a request comes from."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

__all__ = ["Networks", "client_address", "same_client"]

Networks = Collection[IPv4Network | IPv6Network]
_SITE_BITS = 64


def client_address(scope: Scope, trusted: Networks = ()) -> str:
    """
    Return the address of the client; empty where the server has none for it.

    That is who opened the connection, unless it is one of the *trusted* proxies: then the last address in
    `X-Forwarded-For` that is none of them. What stands before it anybody can make up.
    """
    peer = scope.get("client")
    hops = [peer[0] if peer else ""]
    if trusted:
        forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        hops += [hop.strip() for hop in reversed(forwarded)]
    place = 0
    while place + 1 < len(hops) and _is_within(hops[place], trusted) and _parsed(hops[place + 1]):
        place += 1
    return hops[place]


def same_client(address: str) -> str:
    """
    Return what all addresses of a client have in common.

    Who has an IPv6 address has a network of 64 bits at least (RFC 6177), and can take another one for each
    request.
    """
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), _SITE_BITS), strict=False))
    return address if parsed is None else str(parsed)


def _is_within(address: str, networks: Networks) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
