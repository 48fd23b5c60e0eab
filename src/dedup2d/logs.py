"""One form for all logs of a process: those of dedup2d and those of the libraries that it uses."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from dedup2d.errors import MissingExtraError
from dedup2d.tracing import REQUEST_ID, TRACE

try:
    import structlog
    from stamina.instrumentation import set_on_retry_hooks
except ImportError as error:
    raise MissingExtraError("http", "logging as a service does") from error

__all__ = ["configure_logging"]

# Without the local variables: they hold drawings, and what clients sent.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def _with_origin(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add for which request and trace a line was written."""
    if request_id := REQUEST_ID.get():
        event.setdefault("request_id", request_id)
    if trace := TRACE.get():
        event.setdefault("trace_id", trace.trace_id)
        event.setdefault("span_id", trace.span_id)
    return event


def configure_logging(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """
    Send all logs of this process to *stream* (stderr).

    Args:
        level: debug, info, warning or error.
        form: json, console, or auto: console on a terminal, else JSON.
        stream: where to.
    """
    stream = stream or sys.stderr
    on_console = form == "console" or (form == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_origin,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    last: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if on_console
        else [_TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    # It would tell of each retry in a form of its own; the client of the vision server tells it already.
    set_on_retry_hooks(())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
