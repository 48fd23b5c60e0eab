"""
Callbacks: the news that a job has ended, sent to the URL that was given with it.

What is here is for receivers and for signing; it needs no HTTP client. What is sent and how is in
docs/callbacks.md.
"""

from __future__ import annotations

from dedup2d.callbacks.signing import (
    BothSigners,
    CallbackSecrets,
    DedupSigner,
    NoSigner,
    StandardWebhooksSigner,
)
from dedup2d.callbacks.verifying import Verified, verify
from dedup2d.errors import CallbackNotGenuineError

__all__ = [
    "BothSigners",
    "CallbackNotGenuineError",
    "CallbackSecrets",
    "DedupSigner",
    "NoSigner",
    "StandardWebhooksSigner",
    "Verified",
    "verify",
]
