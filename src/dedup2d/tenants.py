"""What a tenant may be called, and what may be other for one than for all."""

from __future__ import annotations

import re

from attrs import frozen

from dedup2d.errors import InvalidParameterError

__all__ = ["TENANT_RULE", "TenantLimits", "check_tenant_id", "is_tenant_id"]

TENANT_RULE = "1 to 64 of a-z 0-9 _ -, the first a letter or digit"
"""Lower case only: tenants name directories, and some file systems do not tell cases apart."""

_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@frozen(kw_only=True)
class TenantLimits:
    """
    What one tenant may use; None where that is as for all.

    Args:
        max_jobs: jobs that may wait and run at once.
        requests_per_second: requests to the API; 0 for any number.
        max_upload_bytes: largest file taken in.
        max_drawings: drawings in its index; 0 for any number.
    """

    max_jobs: int | None = None
    requests_per_second: int | None = None
    max_upload_bytes: int | None = None
    max_drawings: int | None = None


def is_tenant_id(text: str) -> bool:
    """Whether *text* can be the id of a tenant."""
    return _TENANT_ID.fullmatch(text) is not None


def check_tenant_id(text: str) -> str:
    """
    Return *text* if it can be the id of a tenant.

    Raises:
        InvalidParameterError: it cannot.
    """
    if not is_tenant_id(text):
        raise InvalidParameterError("tenant_id", text, TENANT_RULE)
    return text
