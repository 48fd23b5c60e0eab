"""Which addresses the callback guard takes for public."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup2d.callbacks.guard_addresses import Refusal, is_public, refusal_of

NETWORKS = {
    "0.0.0.0/8": "unspecified",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "cgnat",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link_local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "transition",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/5": "reserved",
    "255.255.255.255/32": "broadcast",
    "168.63.129.16/32": "metadata",
    "169.254.169.254/32": "metadata",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::127.0.0.0/104": "loopback",
    "::8.8.8.0/120": "transition",
    "::ffff:127.0.0.0/104": "loopback",
    "::ffff:8.8.8.0/120": "transition",
    "::ffff:0:10.0.0.0/104": "private",
    "64:ff9b::169.254.169.254/128": "metadata",
    "64:ff9b::8.8.8.0/120": "transition",
    "64:ff9b:1:ffff::8.8.8.0/120": "transition",
    "100::/64": "reserved",
    "100:0:0:1::/64": "reserved",
    "2001:2::/48": "reserved",
    "2001:10::/28": "reserved",
    "2001:20::/28": "reserved",
    "2001:1ff::/32": "reserved",
    "2001:db8::/32": "documentation",
    "2002:c0a8::/32": "private",
    "2002:0808::/32": "transition",
    "2620:4f:8000::/48": "reserved",
    "3ffe::/16": "reserved",
    "3fff::/20": "documentation",
    "4000::/3": "reserved",
    "5f00::/16": "reserved",
    "fc00::/7": "private",
    "fd00:ec2::/32": "metadata",
    "fe80::/10": "link_local",
    "fec0::/10": "private",
    "ff00::/8": "multicast",
}


@pytest.mark.parametrize(("network", "reason"), NETWORKS.items())
def test_special_networks_are_refused_to_their_edges(network: str, reason: str) -> None:
    """If this fails, a special network, or its first or last address, is taken for public."""
    parsed = ip_network(network)

    assert is_public(parsed[0]) == reason
    assert is_public(str(parsed[-1])) == reason


@pytest.mark.parametrize(
    "address",
    [
        *(
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
        ),
        *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255"),
        *("192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "8.8.8.8", "168.63.129.17"),
        *(
            "2000::1",
            "2001:200::1",
            "2003::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001::200e",
            "2c0f:fb50::1",
        ),
    ],
)
def test_the_addresses_next_to_them_are_public(address: str) -> None:
    """If this fails, honest receivers are refused because of their neighbours."""
    assert is_public(address) is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"),  # Teredo, of a client at 127.0.0.1
        ("2606:2800:220:1:0:5efe:10.0.0.1", "private"),  # ISATAP
        ("2606:2800:220:1:200:5efe:8.8.8.8", "transition"),
        ("fe80::1%eth0", "zone"),
        ("2606:2800::1%1", "zone"),
        ("127.1", "not_an_address"),
        ("127.0.0.01", "not_an_address"),
        ("2130706433", "not_an_address"),
        ("0x7f.0.0.1", "not_an_address"),
        ("8.8.8.8 ", "not_an_address"),
        ("[::1]", "not_an_address"),
        ("\uff18.8.8.8", "not_an_address"),
        ("localhost", "not_an_address"),
        ("", "not_an_address"),
    ],
)
def test_hidden_zoned_and_odd_addresses_are_refused(address: str, reason: str) -> None:
    """If this fails, an address that hides another, or is read differently by the system, is dialled."""
    assert is_public(address) == reason


def test_metadata_addresses_stay_refused_in_development() -> None:
    """If this fails, a service on a developer's cloud machine gives out the machine's credentials."""
    for address in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "169.254.170.2"):
        assert refusal_of(address, allow_private=True) == Refusal.METADATA
    for address in ("fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe", "fe80::a9fe:a9fe"):
        assert refusal_of(address, allow_private=True) == Refusal.METADATA


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "::",
        "::ffff:127.0.0.1",
        "::10.0.0.1",
        "2002:7f00:1::",
        "fe80::1",
        "x",
    ],
)
def test_development_opens_nothing_but_loopback_and_private(address: str) -> None:
    """If this fails, the switch for development opens more than it says."""
    assert refusal_of(address, allow_private=True) is not None
    for opened in ("127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd12::1"):
        assert refusal_of(opened, allow_private=True) is None
        assert refusal_of(opened) is not None


V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.one_of(
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.integers(2**125, 2**126 - 1).map(IPv6Address),
    st.integers(0x2001 << 112, (0x2003 << 112) - 1).map(IPv6Address),
)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(V4, V6))
@example(IPv4Address("192.0.0.9"))
@example(IPv6Address("64:ff9b:1::1"))
def test_what_python_calls_not_global_is_never_public(address: IPv4Address | IPv6Address) -> None:
    """If this fails, the table lacks a network that this Python's own table knows."""
    if is_public(address) is None:
        assert address.is_global
        assert not any((address.is_multicast, address.is_reserved, address.is_link_local))
    assert is_public(str(address)) == is_public(address)


@settings(max_examples=500, deadline=None)
@given(V4)
def test_an_inner_address_never_becomes_public_by_its_shell(inner: IPv4Address) -> None:
    """If this fails, an address is dialled that a gateway takes apart and sends on to the inside."""
    low = int(inner)
    shells = [low, 0xFFFF << 32 | low, 0xFFFF << 48 | low, 0x64FF9B << 96 | low, 0x2002 << 112 | low << 80]
    shells += [0x2001 << 112 | ~low & 0xFFFF_FFFF, 0x2606_2800 << 96 | 0x5EFE << 32 | low]
    expected = is_public(inner)

    for shell in shells[1:]:
        assert is_public(IPv6Address(shell)) == (expected or is_public(IPv6Address(shell)))
        assert is_public(IPv6Address(shell)) is not None
    assert is_public(IPv6Address(low)) is not None
