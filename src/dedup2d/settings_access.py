"""Settings of who may use the service, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from attrs import Factory, fields_dict, frozen

from dedup2d.errors import ConfigurationError
from dedup2d.keys.principal import Principal, Scope
from dedup2d.keys.secret_file import LEAST_SECRET
from dedup2d.setting_rules import MIB, Rule, parts, setting, whole
from dedup2d.settings_backends import BackendSettings
from dedup2d.tenants import TENANT_RULE, TenantLimits, is_tenant_id

__all__ = ["AccessSettings"]

_LEAST_KEY = 16
_LIMITS = {
    "max_jobs": whole(1, 1_000_000)[0],
    "requests_per_second": whole(0, 1_000_000)[0],
    "max_upload_bytes": whole(1, 4096 * MIB)[0],
    "max_drawings": whole(0, 1_000_000_000)[0],
}
assert _LIMITS.keys() == fields_dict(TenantLimits).keys()


def _keys() -> Rule:
    def convert(text: str) -> Mapping[str, str | Principal]:
        keys: dict[str, str | Principal] = {}
        for part in parts(text):
            tenant, _, rest = part.partition(":")
            key, owner = _key_and_owner(tenant, rest)
            if not (is_tenant_id(tenant) and len(key) >= _LEAST_KEY and key.isascii() and key.isprintable()):
                raise ValueError
            if keys.setdefault(key, owner) != owner:
                raise ValueError
        return keys

    scopes = "+".join(Scope)
    allowed = (
        f"TENANT:KEY or TENANT:KEY:SCOPES, ...; a tenant is {TENANT_RULE}, a key at least {_LEAST_KEY} ASCII"
        f" characters, scopes some of {scopes} (without: all)"
    )
    return convert, allowed


def _key_and_owner(tenant: str, rest: str) -> tuple[str, str | Principal]:
    key, colon, last = rest.rpartition(":")
    words = last.split("+")
    if colon and all(word in list(Scope) for word in words):
        return key, Principal(tenant, frozenset(map(Scope, words)))
    return rest, tenant


def _secrets() -> Rule:
    def convert(text: str) -> tuple[str, ...]:
        secrets = parts(text)
        if not secrets or not all(len(each) >= LEAST_SECRET and each.isascii() for each in secrets):
            raise ValueError
        return secrets

    return convert, f"one or more of at least {LEAST_SECRET} ASCII characters, separated by commas"


def _networks() -> Rule:
    def convert(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(part) for part in parts(text))

    return convert, "addresses and networks such as 10.0.0.7, 10.0.0.0/8, fd00::/8, separated by commas"


def _tenant_limits() -> Rule:
    def convert(text: str) -> Mapping[str, TenantLimits]:
        found: dict[str, TenantLimits] = {}
        for part in parts(text):
            tenant, _, given = part.partition(":")
            if not is_tenant_id(tenant) or tenant in found:
                raise ValueError
            found[tenant] = _limits(given)
        return found

    return convert, f"TENANT:NAME=NUMBER+NAME=NUMBER, ... with the names {', '.join(_LIMITS)}"


def _limits(text: str) -> TenantLimits:
    values: dict[str, int] = {}
    for part in text.split("+"):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in _LIMITS or name in values:
            raise ValueError
        values[name] = _LIMITS[name](value)
    return TenantLimits(**values)


@frozen(kw_only=True)
class AccessSettings(BackendSettings):
    """The part of `dedup2d.settings.Settings` about keys and limits of tenants."""

    api_keys: Mapping[str, str | Principal] = setting(
        "DEDUP2D_API_KEYS",
        Factory(dict),
        _keys(),
        "keys and the tenants they belong to, besides those of `dedup2d keys`; without any keys the service"
        " listens on loopback only",
        secret=True,
    )
    keys_secret: tuple[str, ...] = setting(
        "DEDUP2D_KEYS_SECRET",
        (),
        _secrets(),
        "what stored keys are hashed with, the same on all machines: the first for new keys, the others for"
        " older ones; needed with Redis, else default: keys.secret in the data directory",
        secret=True,
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        "DEDUP2D_TRUSTED_PROXIES",
        (),
        _networks(),
        "proxies whose X-Forwarded-For names the address that wrong keys are counted for",
    )
    max_wrong_keys_per_minute: int = setting(
        "DEDUP2D_MAX_WRONG_KEYS_PER_MINUTE",
        30,
        whole(0, 1_000_000),
        "wrong keys from one address in a minute; then only keys that were right before are looked at from"
        " there; 0: any number",
    )
    max_requests_per_second_per_tenant: int = setting(
        "DEDUP2D_MAX_REQUESTS_PER_SECOND_PER_TENANT",
        100,
        whole(0, 1_000_000),
        "requests of one tenant in a second, over all services on one Redis; 0: any number",
    )
    max_drawings_per_tenant: int = setting(
        "DEDUP2D_MAX_DRAWINGS_PER_TENANT",
        0,
        whole(0, 1_000_000_000),
        "drawings in the index of one tenant; 0: any number",
    )
    tenant_limits: Mapping[str, TenantLimits] = setting(
        "DEDUP2D_TENANT_LIMITS",
        Factory(dict),
        _tenant_limits(),
        "other limits for some tenants",
    )

    def check_access(self, max_upload_bytes: int) -> None:
        """
        Look at settings that depend on each other.

        Raises:
            ConfigurationError: one does not fit another.
        """
        for tenant, limits in self.tenant_limits.items():
            if limits.max_upload_bytes is not None and limits.max_upload_bytes > max_upload_bytes:
                raise ConfigurationError(
                    "DEDUP2D_TENANT_LIMITS",
                    f"{tenant}:max_upload_bytes={limits.max_upload_bytes}",
                    f"at most DEDUP2D_MAX_UPLOAD_BYTES ({max_upload_bytes})",
                )

    def requests_per_second(self, tenant_id: str) -> int:
        """Return how many requests the tenant may make in a second; 0 for any number."""
        own = self.tenant_limits.get(tenant_id, TenantLimits()).requests_per_second
        return self.max_requests_per_second_per_tenant if own is None else own

    def max_drawings(self, tenant_id: str) -> int:
        """Return how many drawings the tenant's index may have; 0 for any number."""
        own = self.tenant_limits.get(tenant_id, TenantLimits()).max_drawings
        return self.max_drawings_per_tenant if own is None else own
