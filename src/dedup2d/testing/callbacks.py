"""The contract of `CallbackSigner` as checks."""

from __future__ import annotations

import re

from dedup2d.protocols import CallbackSigner
from dedup2d.testing.expecting import ContractError, expect, expect_same

__all__ = ["check_callback_signer"]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token, RFC 9110 section 5.6.2."""

_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
"""Printable ASCII without spaces around it, which every HTTP library sends as it is."""

_BODIES = (b"", b"{}", b'{"a":"\xc3\xbc"}', b"\x00\xff\r\n", b"x" * 1_000_000)


async def check_callback_signer(signer: CallbackSigner) -> None:
    """
    Assert that *signer* keeps the contract of `CallbackSigner`.

    Raises:
        ContractError: it does not.
    """
    for body in _BODIES:
        for timestamp in (0, 1_700_000_000, 2**40):
            headers = _headers(signer, body, timestamp)
            expect_same(
                _headers(signer, body, timestamp), headers, "the same arguments give the same headers"
            )
            names = [name.lower() for name in headers]
            expect_same(len(set(names)), len(names), "no header comes twice")
            for name, value in headers.items():
                expect(_NAME.fullmatch(name), f"{name!r} is a header name")
                expect(_VALUE.fullmatch(value), f"the value of {name} can be sent")
    signed = [tuple(sorted(_headers(signer, body, 0).items())) for body in _BODIES]
    expect(
        len(set(signed)) in (1, len(_BODIES)) and (signed[0] == () or len(set(signed)) > 1),
        "a signer that gives headers gives others for each body",
    )


def _headers(signer: CallbackSigner, body: bytes, timestamp: int) -> dict[str, str]:
    try:
        return dict(signer.headers(job_id="job-1", message_id="msg-1", body=body, timestamp=timestamp))
    except Exception as error:
        raise ContractError(f"a signer never raises, this one did: {error!r}") from error
