"""The audit log of what comes over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from starlette.requests import Request

from dedup2d.audit import audit, operator
from dedup2d.keys import Principal
from dedup2d.settings import Settings

__all__ = ["NO_KEY", "audit_start", "audited"]

NO_KEY = "no key"
"""Who is said to have done what was done while there were no keys."""


def audit_start(settings: Settings) -> None:
    """Note with which configuration a service starts: it changes with a start alone."""
    audit(
        "config.start",
        who=operator(),
        tenant_id="*",
        request_id=uuid4().hex,
        settings=settings.changed(),
    )


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
