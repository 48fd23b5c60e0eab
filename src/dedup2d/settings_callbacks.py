"""Settings of callbacks: which URLs may be called, how they are signed, how often they are tried."""

from __future__ import annotations

from attrs import Factory, frozen

from dedup2d.callbacks.guard_url import GuardOptions
from dedup2d.callbacks.signing import CallbackSecrets
from dedup2d.protocols import MAX_CALLBACKS
from dedup2d.setting_rules import MIB, Rule, choice, parts, seconds, setting, whole, yes_or_no

__all__ = ["CallbackSettings"]


def _hosts() -> Rule:
    return parts, "host names, each exact or as *.suffix, separated by commas"


def _networks() -> Rule:
    return parts, "networks such as 198.41.0.0/24, separated by commas"


def _ports() -> Rule:
    def convert(text: str) -> frozenset[int]:
        return frozenset(int(part) for part in parts(text))

    return convert, "port numbers from 1 to 65535, separated by commas"


def _secrets() -> Rule:
    return CallbackSecrets.parse, (
        "SECRET or TENANT:SECRET, ...; a secret has 16 to 256 printable ASCII characters without space, comma"
        " and colon, or is whsec_ and base64 of 16 bytes or more"
    )


@frozen(kw_only=True)
class CallbackSettings:
    """The part of `dedup2d.settings.Settings` that is about callbacks."""

    callback_secrets: CallbackSecrets = setting(
        "DEDUP2D_CALLBACK_HMAC_SECRET",
        Factory(CallbackSecrets),
        _secrets(),
        "what callbacks are signed with, each secret a signature; TENANT:SECRET replaces the others for that"
        " tenant; unset: callbacks are not signed",
        secret=True,
    )
    callback_signing: str = setting(
        "DEDUP2D_CALLBACK_SIGNING",
        "both",
        choice("both", "dedup", "standard", "none"),
        "signatures of callbacks: X-Dedup-Signature, those of Standard Webhooks, or both",
    )
    callback_allowlist: tuple[str, ...] = setting(
        "DEDUP2D_CALLBACK_ALLOWLIST", (), _hosts(), "hosts that may be called; unset: every public one"
    )
    callback_allow_http: bool = setting(
        "DEDUP2D_CALLBACK_ALLOW_HTTP", False, yes_or_no(), "take callback URLs with http:// as well"
    )
    callback_block_private_networks: bool = setting(
        "DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS",
        True,
        yes_or_no(),
        "0 lets callbacks go to loopback and private networks: for development, or a closed network",
    )
    callback_ports: frozenset[int] = setting(
        "DEDUP2D_CALLBACK_PORTS",
        Factory(lambda: GuardOptions().ports),
        _ports(),
        "ports that may be called; default: 80 and 443",
    )
    callback_blocked_networks: tuple[str, ...] = setting(
        "DEDUP2D_CALLBACK_BLOCKED_NETWORKS",
        (),
        _networks(),
        "public networks that are refused all the same",
    )
    callback_resolve_dns: bool = setting(
        "DEDUP2D_CALLBACK_RESOLVE_DNS",
        True,
        yes_or_no(),
        "look at the addresses of a callback's host when a job is submitted, too",
    )
    callback_timeout_seconds: float = setting(
        "DEDUP2D_CALLBACK_TIMEOUT_SECONDS", 10.0, seconds(0.1, 300), "how long a receiver may take to answer"
    )
    callback_max_attempts: int = setting(
        "DEDUP2D_CALLBACK_MAX_ATTEMPTS",
        10,
        whole(1, 100),
        "how often a callback is tried; 10 times take about two days",
    )
    callback_max_body_bytes: int = setting(
        "DEDUP2D_CALLBACK_MAX_BODY_BYTES",
        5 * MIB,
        whole(16_384, 256 * MIB),
        "longest body; beyond it difference pictures are left out first",
    )
    callback_max_waiting: int = setting(
        "DEDUP2D_CALLBACK_MAX_WAITING",
        MAX_CALLBACKS,
        whole(1, 10_000_000),
        "callbacks of one tenant that may wait for their receivers; further jobs with one are refused",
    )
    callback_concurrency: int = setting(
        "DEDUP2D_CALLBACK_CONCURRENCY",
        16,
        whole(1, 1000),
        "callbacks on their way at once from one process; of one tenant a quarter of it",
    )

    @property
    def callback_guard(self) -> GuardOptions:
        """What callbacks may call."""
        return GuardOptions(
            allowlist=self.callback_allowlist,
            allow_http=self.callback_allow_http,
            block_private_networks=self.callback_block_private_networks,
            ports=self.callback_ports,  # type: ignore[arg-type]  # mypy cannot tell what frozenset converts
            resolve_dns=self.callback_resolve_dns,
            blocked_networks=self.callback_blocked_networks,
        )
