"""The HTTP API of dedup2d: a thin Starlette layer over `dedup2d.Dedup2D`."""

from __future__ import annotations

from dedup2d.errors import MissingExtraError

try:
    import granian
    import python_multipart
    import starlette
    import structlog
except ImportError as error:
    raise MissingExtraError("http", "the HTTP API") from error

del granian, python_multipart, starlette, structlog
