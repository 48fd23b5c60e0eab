"""
Signatures of callbacks, by which a receiver knows who sent them and that nothing was altered.

Two schemes over HMAC-SHA256 (RFC 2104), which can be sent side by side:

- dedup v1: `X-Dedup-Signature: t=<unix>,v1=<hex>`, of `<t>.<job_id>.` and the body.
- Standard Webhooks (https://www.standardwebhooks.com): `webhook-signature: v1,<base64>`, of
  `<webhook-id>.<webhook-timestamp>.` and the body.

Each secret gives a signature of its own, so that secrets can be changed without a gap.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Self

from attrs import field, frozen

from dedup2d.tenants import is_tenant_id

__all__ = [
    "DEDUP_SIGNATURE",
    "STANDARD_ID",
    "STANDARD_SIGNATURE",
    "STANDARD_TIMESTAMP",
    "BothSigners",
    "CallbackSecrets",
    "DedupSigner",
    "NoSigner",
    "StandardWebhooksSigner",
    "dedup_digest",
    "standard_digest",
]

DEDUP_SIGNATURE = "X-Dedup-Signature"
STANDARD_ID, STANDARD_TIMESTAMP, STANDARD_SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

_SHORTEST, _LONGEST = 16, 256
_STANDARD_PREFIX = "whsec_"


def _texts(secrets: Iterable[str]) -> tuple[str, ...]:
    return (secrets,) if isinstance(secrets, str) else tuple(secrets)


def dedup_digest(secret: str, *, job_id: str, body: bytes, timestamp: int) -> str:
    """Return the dedup v1 signature by *secret*, whose UTF-8 bytes are the key, as hexadecimal digits."""
    return hmac.digest(secret.encode(), f"{timestamp}.{job_id}.".encode() + body, hashlib.sha256).hex()


def standard_digest(secret: str, *, message_id: str, body: bytes, timestamp: int) -> str:
    """
    Return the Standard Webhooks signature by *secret* as base64.

    The key of a secret `whsec_<base64>` is what is encoded there, of any other its UTF-8 bytes.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return b64encode(hmac.digest(_standard_key(secret), signed, hashlib.sha256)).decode()


def _standard_key(secret: str) -> bytes:
    if not secret.startswith(_STANDARD_PREFIX):
        return secret.encode()
    try:
        return b64decode(secret.removeprefix(_STANDARD_PREFIX), validate=True)
    except ValueError:
        return secret.encode()


@frozen
class DedupSigner:
    """Signs by dedup v1."""

    secrets: tuple[str, ...] = field(converter=_texts, repr=False)

    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Return `X-Dedup-Signature`; see `CallbackSigner`."""
        digests = (dedup_digest(each, job_id=job_id, body=body, timestamp=timestamp) for each in self.secrets)
        return {DEDUP_SIGNATURE: ",".join([f"t={timestamp}", *(f"v1={digest}" for digest in digests)])}


@frozen
class StandardWebhooksSigner:
    """Signs as Standard Webhooks 1.0 has it for symmetric keys."""

    secrets: tuple[str, ...] = field(converter=_texts, repr=False)

    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Return the three headers of the standard; see `CallbackSigner`."""
        digests = (
            standard_digest(each, message_id=message_id, body=body, timestamp=timestamp)
            for each in self.secrets
        )
        return {
            STANDARD_ID: message_id,
            STANDARD_TIMESTAMP: str(timestamp),
            STANDARD_SIGNATURE: " ".join(f"v1,{digest}" for digest in digests),
        }


@frozen
class BothSigners:
    """Signs by both schemes with the same secrets."""

    secrets: tuple[str, ...] = field(converter=_texts, repr=False)

    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:
        """Return the headers of both; see `CallbackSigner`."""
        signers = (
            DedupSigner(self.secrets),
            StandardWebhooksSigner(self.secrets),
        )
        return {
            name: value
            for signer in signers
            for name, value in signer.headers(
                job_id=job_id, message_id=message_id, body=body, timestamp=timestamp
            ).items()
        }


@frozen
class NoSigner:
    """Does not sign: for receivers that ask the service itself for the job."""

    def headers(self, *, job_id: str, message_id: str, body: bytes, timestamp: int) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Return no header."""
        return {}


def _by_tenant(secrets: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {tenant: _texts(given) for tenant, given in secrets.items()}


@frozen(kw_only=True)
class CallbackSecrets:
    """
    The secrets that callbacks are signed with.

    Args:
        common: those for all tenants that have none of their own; the first is the newest.
        tenants: those of single tenants, which replace the common ones.
    """

    common: tuple[str, ...] = field(default=(), converter=_texts, repr=False)
    tenants: Mapping[str, tuple[str, ...]] = field(factory=dict, converter=_by_tenant, repr=False)

    def __bool__(self) -> bool:
        return bool(self.common or self.tenants)

    def of(self, tenant_id: str) -> tuple[str, ...]:
        """Return the secrets for callbacks of the tenant, none if they are not signed."""
        return self.tenants.get(tenant_id, self.common)

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read `SECRET, ...` and `TENANT:SECRET, ...`, mixed.

        A secret has 16 to 256 printable ASCII characters without space, comma and colon.

        Raises:
            ValueError: that is not what it is.
        """
        common: list[str] = []
        tenants: dict[str, list[str]] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            tenant, colon, secret = part.rpartition(":")
            if not _is_secret(secret) or (colon and not is_tenant_id(tenant)):
                raise ValueError
            (tenants.setdefault(tenant, []) if colon else common).append(secret)
        return cls(common=common, tenants=tenants)


def _is_secret(text: str) -> bool:
    fits = _SHORTEST <= len(text) <= _LONGEST and text.isascii() and text.isprintable()
    if not fits or " " in text or ":" in text:
        return False
    if text.startswith(_STANDARD_PREFIX):
        try:
            return len(b64decode(text.removeprefix(_STANDARD_PREFIX), validate=True)) >= _SHORTEST
        except ValueError:
            return False
    return True
