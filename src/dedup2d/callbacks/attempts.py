"""How callbacks are sent and how an attempt goes, in words that need no HTTP client."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from attrs import field, frozen

from dedup2d.callbacks.guard_url import GuardOptions
from dedup2d.callbacks.signing import (
    BothSigners,
    CallbackSecrets,
    DedupSigner,
    NoSigner,
    StandardWebhooksSigner,
)
from dedup2d.protocols import CallbackSigner, Resource
from dedup2d.types import CallbackStatus, Job

__all__ = ["Attempt", "CallbackOptions", "Outcome", "Sender", "Signing"]


class Signing(StrEnum):
    """By which scheme callbacks are signed; see `dedup2d.callbacks.signing`."""

    BOTH = "both"
    DEDUP = "dedup"
    STANDARD = "standard"
    NONE = "none"


class Outcome(StrEnum):
    """How an attempt went: a fixed set, fit for the label of a metric."""

    SUCCESS = "success"
    PASSING_STATUS = "passing_status"
    FINAL_STATUS = "final_status"
    REDIRECT = "redirect"
    TIMEOUT = "timeout"
    TLS = "tls"
    DNS = "dns"
    CONNECTION = "connection"
    PROTOCOL = "protocol"
    BLOCKED = "blocked"
    NOT_ALLOWED = "not_allowed"
    INTERNAL = "internal"


_ENDS = {
    Outcome.SUCCESS: CallbackStatus.SUCCESS,
    Outcome.FINAL_STATUS: CallbackStatus.FAILED,
    Outcome.REDIRECT: CallbackStatus.FAILED,
    Outcome.BLOCKED: CallbackStatus.FAILED,
    Outcome.NOT_ALLOWED: CallbackStatus.SKIPPED,
}


@frozen(kw_only=True)
class Attempt:
    """
    How one attempt went.

    `error` is in words for whoever submitted the job; `refusal` is why the guard did not let it through.
    """

    outcome: Outcome
    http_status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    refusal: str | None = None

    @property
    def ends_as(self) -> CallbackStatus | None:
        """What the callback has become; None if it may be tried again."""
        return _ENDS.get(self.outcome)


_SIGNERS: Mapping[Signing, Callable[[tuple[str, ...]], CallbackSigner]] = {
    Signing.BOTH: BothSigners,
    Signing.DEDUP: DedupSigner,
    Signing.STANDARD: StandardWebhooksSigner,
    Signing.NONE: lambda _: NoSigner(),
}


@frozen(kw_only=True)
class CallbackOptions:
    """
    How callbacks are sent; times in seconds.

    Args:
        guard: what may be called.
        secrets: what they are signed with. Without secrets for a tenant its callbacks are not signed.
        signing: by which scheme.
        signers: makes the signer of a tenant, instead of *secrets* and *signing*.
        timeout_seconds: how long a receiver may take to answer, from looking up its name to the status; the
            rest of the reply has one more second.
        max_attempts: attempts before the callback has failed.
        max_body_bytes: longest body; what is left out is said in `dedup2d.callbacks.body`.
        concurrency: attempts at once of one process; a tenant has a quarter of them.
        poll_seconds: how often a process looks for callbacks that others have left.
        tls: whom a receiver's certificate must be from; None takes the system's authorities.
    """

    guard: GuardOptions = field(factory=GuardOptions)
    secrets: CallbackSecrets = field(factory=CallbackSecrets)
    signing: Signing = field(default=Signing.BOTH, converter=Signing)
    signers: Callable[[str], CallbackSigner] | None = None
    timeout_seconds: float = 10.0
    max_attempts: int = 10
    max_body_bytes: int = 5 * 1024 * 1024
    concurrency: int = 16
    poll_seconds: float = 2.0
    tls: ssl.SSLContext | None = None

    def signer_of(self, tenant_id: str) -> CallbackSigner:
        """Return what signs the callbacks of the tenant."""
        if self.signers is not None:
            return self.signers(tenant_id)
        secrets = self.secrets.of(tenant_id)
        return _SIGNERS[self.signing](secrets) if secrets else NoSigner()


class Sender(Resource, Protocol):
    """Checks callback URLs and makes attempts; `dedup2d.callbacks.sending.CallbackSender` is one."""

    @property
    def options(self) -> CallbackOptions:
        """How callbacks are sent."""

    async def check(self, url: str) -> str:
        """
        Return *url* as it will be called.

        Raises:
            CallbackUrlError: it may not be called.
        """

    async def send(self, job: Job) -> Attempt:
        """Make one attempt to deliver the callback of the final *job*; does not raise."""
