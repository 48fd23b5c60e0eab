"""
Who changed what: one line in the log `dedup2d.audit` for each change of a key, an index or a configuration.

The lines are written at every log level. They hold ids, never keys, names of files or metadata.
"""

from __future__ import annotations

import logging
import os
import pwd
import socket
from typing import Any

from dedup2d.errors import MissingExtraError

try:
    import structlog
except ImportError as error:
    raise MissingExtraError("http", "the audit log") from error

__all__ = ["AUDIT_LOGGER", "audit", "operator"]

AUDIT_LOGGER = "dedup2d.audit"

log = structlog.get_logger(AUDIT_LOGGER)


def operator() -> str:
    """Return who runs this process, and where: for what is done without a key."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, users often have no name
        user = f"uid {os.getuid()}"
    return f"{user} on {socket.gethostname()}"


def audit(what: str, *, who: str, tenant_id: str, request_id: str, **details: Any) -> None:
    """
    Note that something was changed.

    Args:
        what: was done, such as `index.add`.
        who: the id of the key, or the user of the machine, that it was done with.
        tenant_id: whose it is.
        request_id: leads to the other lines of the log.
        details: ids and counts of what was changed.
    """
    logging.getLogger(AUDIT_LOGGER).setLevel(logging.INFO)  # whatever the others are set to
    log.info(what, who=who, tenant=tenant_id, request_id=request_id, **details)
