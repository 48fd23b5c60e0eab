"""Signatures of callbacks: by our verifier, by the library of Standard Webhooks, and against forgery."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from dedup2d.callbacks import (
    BothSigners,
    CallbackNotGenuineError,
    CallbackSecrets,
    DedupSigner,
    NoSigner,
    StandardWebhooksSigner,
    verify,
)
from dedup2d.protocols import CallbackSigner
from dedup2d.testing import ContractError, check_callback_signer

OLD, NEW, OTHER = "an-old-secret-of-the-receiver", "whsec_" + "bmV3IHNlY3JldCBvZiB0aGUgcmVjZWl2ZXI=", "o" * 30
NOW = 1_700_000_000
BODY = json.dumps({"job_id": "job-1", "status": "completed", "name": "Gehäuse"}).encode()
SIGNERS: dict[str, Callable[[list[str]], CallbackSigner]] = {
    "dedup": DedupSigner,
    "standard": StandardWebhooksSigner,
    "both": BothSigners,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def signed(signer: CallbackSigner, *, timestamp: int = NOW, body: bytes = BODY) -> dict[str, str]:
    headers = signer.headers(job_id="job-1", message_id="msg_job-1", body=body, timestamp=timestamp)
    return {**headers, "X-Dedup-Job-Id": "job-1"}


@pytest.mark.parametrize(
    "signer",
    [DedupSigner([OLD]), StandardWebhooksSigner([NEW, OLD]), BothSigners([NEW, OLD]), NoSigner()],
    ids=lambda signer: type(signer).__name__,
)
async def test_signers_keep_the_contract(signer: CallbackSigner) -> None:
    """If this fails, an attempt cannot be sent, or two attempts are signed differently."""
    await check_callback_signer(signer)


async def test_the_contract_refuses_broken_signers() -> None:
    """If this fails, a signer that does not look at the body passes for a good one."""

    class Broken(DedupSigner):
        def headers(self, *, body: bytes, **given: Any) -> Any:
            return super().headers(body=body[:1], **given)

    with pytest.raises(ContractError):
        await check_callback_signer(Broken([OLD]))


def test_the_headers_are_those_of_the_documentation() -> None:
    """If this fails, receivers written by the documentation refuse every callback."""
    headers = signed(BothSigners([OLD, NEW]))

    first, second = (
        hmac.new(secret.encode(), b"%d.job-1." % NOW + BODY, hashlib.sha256).hexdigest()
        for secret in (OLD, NEW)
    )
    assert headers["X-Dedup-Signature"] == f"t={NOW},v1={first},v1={second}"
    key = b64decode(NEW.removeprefix("whsec_"))
    digest = b64encode(hmac.new(key, b"msg_job-1.%d." % NOW + BODY, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"].split()[1] == f"v1,{digest}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_job-1", str(NOW))


@pytest.mark.parametrize("name", SIGNERS)
def test_any_known_secret_verifies(name: str) -> None:
    """If this fails, secrets cannot be changed without callbacks that are refused meanwhile."""
    headers = signed(SIGNERS[name]([NEW, OLD]))

    for secrets in (NEW, OLD, [OTHER, OLD], (NEW, OTHER)):
        found = verify(headers, BODY, secrets, now=NOW + 10)
        assert (found.job_id, found.timestamp) == ("job-1", NOW)
        assert found.payload["name"] == "Gehäuse"
        assert found.message_id == (None if name == "dedup" else "msg_job-1")
    assert verify({each.upper(): value for each, value in headers.items()}, BODY, OLD, now=NOW).job_id


@pytest.mark.parametrize("name", SIGNERS)
def test_forgeries_are_refused(name: str) -> None:
    """If this fails, somebody without the secret can tell a receiver what they like."""
    headers = signed(SIGNERS[name]([NEW, OLD]))
    unsigned = {each: value for each, value in headers.items() if "signature" not in each.lower()}
    cases: dict[str, tuple[dict[str, str], bytes, Any, float]] = {
        "altered body": (headers, BODY.replace(b"completed", b"failed"), OLD, NOW),
        "longer body": (headers, BODY + b" ", OLD, NOW),
        "other secret": (headers, BODY, OTHER, NOW),
        "old timestamp": (headers, BODY, OLD, NOW + 300.1),
        "timestamp of the future": (headers, BODY, OLD, NOW - 300.1),
        "no signature": (unsigned, BODY, OLD, NOW),
        "no secret": (headers, BODY, [], NOW),
        "empty secret": (headers, BODY, "", NOW),
    }
    for case, (given_headers, body, secrets, now) in cases.items():
        with pytest.raises(CallbackNotGenuineError):
            pytest.fail(f"{case}: {verify(given_headers, body, secrets, now=now)}")
    later = {each: value.replace(str(NOW), str(NOW + 1000)) for each, value in headers.items()}
    with pytest.raises(CallbackNotGenuineError, match="no signature fits"):
        verify(later, BODY, OLD, now=NOW + 1000)
    assert verify(headers, BODY, OLD, now=NOW + 300).job_id == "job-1"


def test_the_id_of_job_and_message_are_signed() -> None:
    """If this fails, an old callback can be passed off as that of another job."""
    for name, header in (("dedup", "X-Dedup-Job-Id"), ("standard", "webhook-id")):
        headers = {**signed(SIGNERS[name]([OLD])), header: "another"}
        with pytest.raises(CallbackNotGenuineError, match="no signature fits"):
            verify(headers, BODY, OLD, now=NOW)


# What is no UTF-8 comes as lone surrogates from servers that decode headers as aiohttp's does.
HEADER = st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode(errors="surrogateescape"))


@given(st.dictionaries(st.sampled_from([*signed(BothSigners([OLD]))]), HEADER), st.binary())
def test_no_garbage_is_taken_or_breaks_the_verifier(garbage: dict[str, str], body: bytes) -> None:
    """If this fails, a receiver answers garbage with an error of its own, or takes it."""
    with pytest.raises(CallbackNotGenuineError):
        verify({**signed(BothSigners([OTHER])), **garbage}, body, OLD, now=NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"{", b'{"job_id": 1}', b"\xff", b"[" * 100_000])
def test_a_signed_body_of_something_else_is_refused(body: bytes) -> None:
    """If this fails, the verifier gives a payload without its job."""
    headers = signed(BothSigners([OLD]), body=body)
    with pytest.raises(CallbackNotGenuineError, match="not that of a callback"):
        verify(headers, body, OLD, now=NOW)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_the_library_of_standard_webhooks_verifies(secret: str) -> None:
    """If this fails, receivers that use the library refuse every callback."""
    now = int(time.time())
    encoded = secret if secret.startswith("whsec_") else "whsec_" + b64encode(secret.encode()).decode()
    for signer in (StandardWebhooksSigner([OTHER, secret]), BothSigners([secret])):
        headers = signed(signer, timestamp=now)
        assert Webhook(encoded).verify(BODY, headers) == json.loads(BODY)
        with pytest.raises(WebhookVerificationError):
            Webhook(encoded).verify(BODY + b" ", headers)
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + b64encode(b"x" * 24).decode()).verify(BODY, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(encoded).verify(BODY, signed(signer, timestamp=now - 1000))


def test_what_the_library_signs_is_verified() -> None:
    """If this fails, our verifier and the library do not mean the same by the standard."""
    when = datetime.fromtimestamp(NOW, UTC)
    signature = Webhook(NEW).sign("msg_1", when, BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": signature}

    assert verify(headers, BODY, NEW, now=NOW).message_id == "msg_1"


def test_secrets_are_read_for_all_and_for_single_tenants() -> None:
    """If this fails, a tenant's callbacks are signed with the secret of another."""
    secrets = CallbackSecrets.parse(f" {NEW}, {OLD}, acme:{OTHER}, acme:{'n' * 16} ,")

    assert secrets.of("anybody") == (NEW, OLD)
    assert secrets.of("acme") == (OTHER, "n" * 16)
    assert OTHER not in repr(secrets)
    assert NEW not in repr(BothSigners(secrets.common))
    assert not CallbackSecrets.parse("")


@pytest.mark.parametrize(
    "text",
    ["short", "x" * 257, "with space in the secret", "UPPER:" + OLD, ":" + OLD, "ü" * 20, "whsec_****" * 4],
)
def test_secrets_that_cannot_be_are_refused(text: str) -> None:
    """If this fails, callbacks are signed with something that nobody can verify, or guess easily."""
    with pytest.raises(ValueError, match=r"^$"):
        CallbackSecrets.parse(text)
