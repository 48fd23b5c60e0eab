"""
Which addresses a callback may be sent to: global unicast, and none that leads back inside.

The table is written out: `ipaddress.is_global` judges several of these networks differently from one
Python to the next. Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890) and the
documents named beside each network.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["FOR_DEVELOPMENT", "Address", "Network", "Refusal", "is_public", "refusal_of"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Refusal(StrEnum):
    """Why a URL or an address is refused: a fixed set, fit for the label of a metric."""

    BENCHMARKING = "benchmarking"
    BLOCKED = "blocked"
    BROADCAST = "broadcast"
    CGNAT = "cgnat"
    DOCUMENTATION = "documentation"
    LINK_LOCAL = "link_local"
    LOOPBACK = "loopback"
    METADATA = "metadata"
    MULTICAST = "multicast"
    NOT_AN_ADDRESS = "not_an_address"
    PRIVATE = "private"
    RESERVED = "reserved"
    TRANSITION = "transition"
    UNSPECIFIED = "unspecified"
    ZONE = "zone"
    ALLOWLIST = "allowlist"
    HOST = "host"
    INTERNAL_NAME = "internal_name"
    PORT = "port"
    PROXY = "proxy"
    SCHEME = "scheme"
    SYNTAX = "syntax"
    UNRESOLVED = "unresolved"
    USER_INFO = "user_info"


FOR_DEVELOPMENT = frozenset({Refusal.LOOPBACK, Refusal.PRIVATE})
"""What alone is let through where private networks are not blocked."""

_METADATA = (
    "169.254.169.254",  # AWS, Azure, Google, DigitalOcean, Hetzner, OpenStack, Oracle
    "169.254.170.0/24",  # AWS: credentials of containers
    "100.100.100.200",  # Alibaba
    "168.63.129.16",  # Azure: its wire server, an address that looks public
    "192.0.0.192",  # Oracle, older machines
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254",  # Google
    "fd00:42::42",  # Scaleway
    "fd00:c1::a9fe:a9fe",  # Oracle
    "fe80::a9fe:a9fe",  # OpenStack
)
_SPECIAL: tuple[tuple[str, Refusal], ...] = (
    ("0.0.0.0/8", Refusal.UNSPECIFIED),  # RFC 791; reaches the machine itself on Linux
    ("10.0.0.0/8", Refusal.PRIVATE),  # RFC 1918
    ("100.64.0.0/10", Refusal.CGNAT),  # RFC 6598
    ("127.0.0.0/8", Refusal.LOOPBACK),  # RFC 1122
    ("169.254.0.0/16", Refusal.LINK_LOCAL),  # RFC 3927
    ("172.16.0.0/12", Refusal.PRIVATE),  # RFC 1918
    ("192.0.0.0/24", Refusal.RESERVED),  # RFC 6890, with the anycast of RFC 7723 and 8155
    ("192.0.2.0/24", Refusal.DOCUMENTATION),  # RFC 5737
    ("192.31.196.0/24", Refusal.RESERVED),  # AS112, RFC 7535
    ("192.52.193.0/24", Refusal.TRANSITION),  # AMT, RFC 7450
    ("192.88.99.0/24", Refusal.TRANSITION),  # 6to4 relays, RFC 7526
    ("192.168.0.0/16", Refusal.PRIVATE),  # RFC 1918
    ("192.175.48.0/24", Refusal.RESERVED),  # AS112, RFC 7534
    ("198.18.0.0/15", Refusal.BENCHMARKING),  # RFC 2544
    ("198.51.100.0/24", Refusal.DOCUMENTATION),  # RFC 5737
    ("203.0.113.0/24", Refusal.DOCUMENTATION),  # RFC 5737
    ("224.0.0.0/4", Refusal.MULTICAST),  # RFC 1112
    ("255.255.255.255/32", Refusal.BROADCAST),  # RFC 919
    ("240.0.0.0/4", Refusal.RESERVED),  # RFC 1112
    ("::/128", Refusal.UNSPECIFIED),  # RFC 4291
    ("::1/128", Refusal.LOOPBACK),  # RFC 4291
    ("64:ff9b:1::/48", Refusal.TRANSITION),  # local NAT64, RFC 8215
    ("100::/64", Refusal.RESERVED),  # discard only, RFC 6666
    ("100:0:0:1::/64", Refusal.RESERVED),  # dummy prefix, RFC 9780
    ("2001::/32", Refusal.TRANSITION),  # Teredo, RFC 4380
    ("2001::/23", Refusal.RESERVED),  # IETF protocols, RFC 2928: ORCHID, benchmarking, AMT, anycast
    ("2001:db8::/32", Refusal.DOCUMENTATION),  # RFC 3849
    ("2620:4f:8000::/48", Refusal.RESERVED),  # AS112, RFC 7534
    ("3ffe::/16", Refusal.RESERVED),  # the former 6bone, RFC 3701
    ("3fff::/20", Refusal.DOCUMENTATION),  # RFC 9637
    ("5f00::/16", Refusal.RESERVED),  # segment routing, RFC 9602
    ("fc00::/7", Refusal.PRIVATE),  # unique local, RFC 4193
    ("fe80::/10", Refusal.LINK_LOCAL),  # RFC 4291
    ("fec0::/10", Refusal.PRIVATE),  # site local, RFC 3879
    ("ff00::/8", Refusal.MULTICAST),  # RFC 4291
)
_LOOPBACK = IPv6Address("::1")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that IANA has given out for global unicast; the rest is reserved (RFC 4291)."""

_EMBEDDING: tuple[tuple[IPv6Network, int], ...] = (
    # Network, and how far the low bit of the IPv4 address in it lies from the low bit of the whole.
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped, RFC 4291
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated, RFC 2765
    (IPv6Network("::/96"), 0),  # compatible, RFC 4291
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (IPv6Network("64:ff9b:1::/48"), 0),  # local NAT64, RFC 8215, with a prefix of 96 bits
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
_TEREDO = IPv6Network("2001::/32")  # RFC 4380; the client's address is in it inverted
_ISATAP_BITS, _ISATAP = 0xFDFF_FFFF, 0x0000_5EFE  # RFC 5214, upper half of the interface id


def _table() -> tuple[tuple[Network, Refusal], ...]:
    first = tuple((ip_network(text), Refusal.METADATA) for text in _METADATA)
    return first + tuple((ip_network(text), refusal) for text, refusal in _SPECIAL)


_TABLE = _table()


def is_public(address: str | Address) -> Refusal | None:
    """
    Tell why *address* may not be called, as one of `Refusal`, or None if it is public.

    IPv6 addresses that carry an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) are never
    public; the reason is the inner address's own if that has one. Text that is not an address in its
    standard spelling is `not_an_address`; a zone id is `zone`.
    """
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return Refusal.NOT_AN_ADDRESS
    return _judged(address)


def refusal_of(
    address: str | Address, *, allow_private: bool = False, blocked: Iterable[Network] = ()
) -> Refusal | None:
    """
    Tell why *address* may not be called under the given options, or None if it may.

    Args:
        address: an address as a resolver or a URL gives it.
        allow_private: let loopback and private networks through, for development; nothing else.
        blocked: networks of the operator's own that are refused as well.
    """
    refusal = is_public(address)
    if refusal is not None and not (allow_private and refusal in FOR_DEVELOPMENT and not _carries(address)):
        return refusal
    parsed = ip_address(address) if isinstance(address, str) else address
    return Refusal.BLOCKED if any(_within(parsed, network) for network in blocked) else None


@lru_cache(maxsize=4096)
def _judged(address: Address) -> Refusal | None:
    if isinstance(address, IPv4Address):
        return _listed(address)
    if address.scope_id is not None:
        return Refusal.ZONE
    listed = _listed(address)
    if listed in (Refusal.METADATA, Refusal.LOOPBACK, Refusal.UNSPECIFIED):
        return listed
    inner = _inner(address)
    if inner is not None:
        return _listed(inner) or listed or Refusal.TRANSITION
    return listed or (None if address in _GLOBAL_UNICAST else Refusal.RESERVED)


def _listed(address: Address) -> Refusal | None:
    return next((refusal for network, refusal in _TABLE if _within(address, network)), None)


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _carries(address: str | Address) -> bool:
    parsed = ip_address(address) if isinstance(address, str) else address
    return isinstance(parsed, IPv6Address) and parsed != _LOOPBACK and _inner(parsed) is not None


def _inner(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that *address* carries by one of the known schemes."""
    whole = int(address)
    for network, shift in _EMBEDDING:
        if address in network:
            return IPv4Address(whole >> shift & 0xFFFF_FFFF)
    if address in _TEREDO:
        return IPv4Address(~whole & 0xFFFF_FFFF)
    if whole >> 32 & _ISATAP_BITS == _ISATAP:
        return IPv4Address(whole & 0xFFFF_FFFF)
    return None
