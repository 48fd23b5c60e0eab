"""The audit log of what comes over HTTP."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from dedup2d.audit import audit
from dedup2d.keys import Principal

__all__ = ["NO_KEY", "audited"]

NO_KEY = "no key"
"""Who is said to have done what was done while there were no keys."""


def audited(request: Request, what: str, **details: Any) -> None:
    """Note that *request* has changed something."""
    principal: Principal = request.state.principal
    audit(
        what,
        who=principal.key_id or NO_KEY,
        tenant_id=principal.tenant_id,
        request_id=request.state.request_id,
        **details,
    )
