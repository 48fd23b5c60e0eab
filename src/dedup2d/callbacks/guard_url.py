"""
Which callback URLs are taken at all, before any name is resolved.

Parsers differ, and a guard that reads another host than the client dials guards nothing. So this one
understands only the plainest spelling of a URL (RFC 3986 without user info, fragment, percent-encoded
hosts or numbers that are not dotted quads), which all parsers read alike, and refuses all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from attrs import Attribute, field, frozen

from dedup2d.callbacks.guard_addresses import Address, Network, Refusal, refusal_of
from dedup2d.errors import CallbackUrlError, ConfigurationError, shown

__all__ = ["MAX_URL_LENGTH", "GuardOptions", "check_url"]

MAX_URL_LENGTH = 2048
"""Longest callback URL, in characters."""

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)", re.IGNORECASE)
_URL_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_INTERNAL = ("localhost", "localdomain", "local", "internal", "home.arpa", "lan", "svc", "corp", "intranet")
"""Names that are only resolved inside a network (RFC 6761, 6762, 8375, ICANN's `internal`, Kubernetes)."""
_METADATA_NAMES = (
    *("metadata", "metadata.google.internal", "metadata.goog", "metadata.azure.internal"),
    *("instance-data", "instance-data.ec2.internal", "metadata.tencentyun.com"),
)
_PLAIN = "an absolute URL in plain ASCII, such as https://hooks.example.com/dedup2d?job=1"
_HOST_RULE = "a host name such as hooks.example.com, or a public address in its standard spelling"


def _allowlist(entries: Iterable[str]) -> tuple[str, ...]:
    return tuple(_entry(entry) for entry in entries)


def _entry(entry: str) -> str:
    text = entry.strip().lower().removesuffix(".")
    literal = _literal(text)
    if literal is not None:
        return str(literal)
    if not _is_name(text.removeprefix("*.")):
        raise ConfigurationError(
            "DEDUP2D_CALLBACK_ALLOWLIST", entry, "host names (ASCII, no port), each exact or as *.suffix"
        )
    return text


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(text.strip()) for text in texts)
    except ValueError:
        raise ConfigurationError(
            "DEDUP2D_CALLBACK_BLOCKED_NETWORKS", ",".join(texts), "networks such as 198.41.0.0/24,2600:1::/32"
        ) from None


def _check_ports(_: Any, __: Attribute[Any], ports: frozenset[int]) -> None:
    if not ports or not all(0 < port < 65536 for port in ports):
        raise ConfigurationError(
            "DEDUP2D_CALLBACK_PORTS", ",".join(map(str, sorted(ports))), "ports from 1 to 65535, at least one"
        )


@frozen(kw_only=True)
class GuardOptions:
    """
    Args:
        allowlist: hosts that may be called, each exact or `*.suffix` (which the suffix itself is not);
            empty allows every public host. It narrows only: a host on it must be public all the same.
        allow_http: whether http:// is allowed beside https://.
        block_private_networks: False lets loopback and private networks through, for development; metadata,
            link-local and all other special addresses stay refused.
        ports: ports that may be called.
        resolve_dns: whether the host's addresses are looked at when a job is submitted, too. They are
            looked at whenever a callback is sent, whatever this says.
        blocked_networks: networks that are refused as well: public ones in which something internal
            stands, or a NAT64 prefix of your own.

    Raises:
        ConfigurationError: a value is not allowed; names the variable that sets it.
    """

    allowlist: tuple[str, ...] = field(default=(), converter=_allowlist)
    allow_http: bool = False
    block_private_networks: bool = True
    ports: frozenset[int] = field(default=frozenset({80, 443}), converter=frozenset, validator=_check_ports)
    resolve_dns: bool = True
    blocked_networks: tuple[Network, ...] = field(default=(), converter=_networks)

    def refusal_of(self, address: str | Address) -> Refusal | None:
        """Tell why *address* may not be called, or None if it may."""
        return refusal_of(
            address, allow_private=not self.block_private_networks, blocked=self.blocked_networks
        )


def check_url(url: str, options: GuardOptions) -> str:
    """
    Return *url* as it will be called: scheme and host in lower case, no default port, a path.

    Resolves nothing. What it returns is read alike by every parser of URLs.

    Raises:
        CallbackUrlError: it may not be called; says why and what is allowed, and never shows the query.
    """
    match = _URL.fullmatch(_characters(url))
    if match is None:
        raise CallbackUrlError(Refusal.SYNTAX, "it is not an absolute URL, or has a fragment", _PLAIN)
    scheme = _scheme(match["scheme"].lower(), options)
    host_text, port = _authority(match["authority"], scheme, options)
    host = _host(host_text, options)
    authority = host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
    rest = match["rest"]
    return f"{scheme}://{authority}{rest if rest.startswith('/') else '/' + rest}"


def _characters(url: str) -> str:
    if len(url) > MAX_URL_LENGTH:
        raise CallbackUrlError(
            Refusal.SYNTAX, f"it is longer than {MAX_URL_LENGTH} characters", "a shorter URL"
        )
    if not _URL_CHARACTERS.fullmatch(url):
        problem = (
            "it has characters that a URL may not have, such as spaces, backslashes or non-ASCII letters"
        )
        raise CallbackUrlError(
            Refusal.SYNTAX, problem, "them percent-encoded, and the host as ASCII (xn--...)"
        )
    return url


def _scheme(scheme: str, options: GuardOptions) -> str:
    allowed = ("https", "http") if options.allow_http else ("https",)
    if scheme not in allowed:
        problem = f"its scheme is {shown(scheme, 20)}"
        raise CallbackUrlError(Refusal.SCHEME, problem, " or ".join(f"{one}://..." for one in allowed))
    return scheme


def _authority(authority: str, scheme: str, options: GuardOptions) -> tuple[str, int]:
    if "@" in authority:
        raise CallbackUrlError(
            Refusal.USER_INFO,
            "it has a user or password before an @",
            "it without them: callbacks are signed",
        )
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["host"]:
        raise CallbackUrlError(Refusal.HOST, "it has no host that can be read", _HOST_RULE)
    port = str(_DEFAULT_PORTS[scheme]) if match["port"] is None else match["port"]
    if not (_PORT.fullmatch(port) and int(port) in options.ports):
        allowed = ", ".join(str(one) for one in sorted(options.ports))
        problem = f"its port is {shown(port, 20)!r}"
        raise CallbackUrlError(Refusal.PORT, problem, f"one of the ports {allowed}")
    return match["host"].lower(), int(port)


def _host(host: str, options: GuardOptions) -> str:
    """Return *host* in its standard spelling if it may be called."""
    literal = _literal(host)
    if literal is not None:
        _check_literal(literal, options)
        host = f"[{literal}]" if isinstance(literal, IPv6Address) else str(literal)
    else:
        host = _name(host, options)
    listed = host.strip("[]")
    if options.allowlist and not any(_matches(listed, entry) for entry in options.allowlist):
        raise CallbackUrlError(
            Refusal.ALLOWLIST, f"the host {shown(host)} is not on the list", "a host that is on the allowlist"
        )
    return host


def _literal(host: str) -> Address | None:
    """Return the address that *host* is in its standard spelling, None if it is not one."""
    try:
        if host.startswith("[") or ":" in host:
            return IPv6Address(host.removeprefix("[").removesuffix("]"))
        return IPv4Address(host) if _QUAD.fullmatch(host) else None
    except ValueError:
        return None


def _check_literal(address: Address, options: GuardOptions) -> None:
    refusal = options.refusal_of(address)
    if refusal is not None:
        raise CallbackUrlError(refusal, f"the address {shown(str(address))} is not public", _HOST_RULE)


def _name(host: str, options: GuardOptions) -> str:
    name = host.removesuffix(".")
    if not _is_name(name) or (host != name and _literal(name) is not None):
        raise CallbackUrlError(Refusal.HOST, f"{shown(host)} is not the name of a host", _HOST_RULE)
    if name in _METADATA_NAMES:
        raise CallbackUrlError(Refusal.METADATA, f"{shown(name)} is a metadata service", _HOST_RULE)
    internal = "." not in name or any(name == one or name.endswith("." + one) for one in _INTERNAL)
    if internal and options.block_private_networks:
        raise CallbackUrlError(Refusal.INTERNAL_NAME, f"{shown(name)} is a name inside a network", _HOST_RULE)
    return name


def _is_name(name: str) -> bool:
    """Whether *name* is a host name (RFC 1123); its last label starts with a letter, or it is a number."""
    labels = name.split(".")
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and labels[-1][0].isalpha()


def _matches(host: str, entry: str) -> bool:
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry
