"""The service's log, which tells of each request in one line."""

from __future__ import annotations

import logging
from typing import TextIO

from dedup2d import logs

__all__ = ["configure_logging"]


def configure_logging(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to *stream*; see `dedup2d.logs.configure_logging`."""
    logs.configure_logging(level=level, form=form, stream=stream)
    # It warns of every malformed body, which the request's own line tells already.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
