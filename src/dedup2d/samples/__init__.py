"""
Generated 2D drawings to try things on: realistic, seeded, and with the truth about how they are related.

Needs the extra `engine`. See `generate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup2d.errors import MissingExtraError

if TYPE_CHECKING:
    from dedup2d.samples.collection import Sample, generate

__all__ = ["Sample", "generate"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from dedup2d.samples import collection  # noqa: PLC0415 - its packages are behind an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("engine", "generating samples") from error
    return getattr(collection, name)
