"""
The dedupcad-vision contract on the wire: its form fields, and answers that its old clients understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dedup2d.errors import InvalidParameterError
from dedup2d.types import SearchParams, SearchResult
from dedup2d_http.params import SEARCH_FIELDS

__all__ = ["ignored_view", "search_params", "search_view", "source_of"]

_LEVELS = ("l1", "l2", "l3", "l4")
_LONGEST_SOURCE = 4096


def search_params(fields: Mapping[str, str]) -> SearchParams:
    """
    Read the fields of a search. Other than elsewhere, `exclude_self` is true unless it is given.

    Raises:
        InvalidParameterError: one has a value that is not allowed.
    """
    given = {name: SEARCH_FIELDS[name](name, text) for name, text in fields.items()}
    return SearchParams(**{"exclude_self": True, **given})


def source_of(fields: Mapping[str, str]) -> str | None:
    """
    Return where a drawing to be added lies, if that is said.

    Raises:
        InvalidParameterError: it is empty or too long.
    """
    source = fields.get("source")
    if source is not None and not 1 <= len(source) <= _LONGEST_SOURCE:
        raise InvalidParameterError("source", source, f"1 to {_LONGEST_SOURCE} characters")
    return source


def ignored_view(params: SearchParams) -> dict[str, list[str]]:
    """Return what was left out, so that a client sees that this server knows `ignore`."""
    return {"ignored": [str(one) for one in params.ignore]}


def search_view(result: SearchResult, params: SearchParams) -> dict[str, Any]:
    """Return the contract's answer to a search, with what only we know besides."""
    return {
        **ignored_view(params),
        "success": result.success,
        "total_matches": result.total_matches,
        "duplicates": result.duplicates,
        "similar": result.similar,
        "final_level": result.final_level,
        "timing": result.timing,
        "level_stats": _level_stats(result),
        "warnings": result.warnings,
        "error": result.error,
        "file_hash": result.file_hash,
        "pages": result.pages,
    }


def _level_stats(result: SearchResult) -> dict[str, dict[str, float]]:
    """Return for each level how many drawings it passed on and took out: the last one passes the matches."""
    looked_at = [(name, result.level_stats[name]) for name in _LEVELS if name in result.level_stats]
    stats = {}
    for place, (name, count) in enumerate(looked_at):
        later = [more for _, more in looked_at[place + 1 :] if more]
        passed = min(count, later[0] if later else result.total_matches)
        time_ms = getattr(result.timing, f"{name}_ms")
        stats[name] = {"passed": passed, "filtered": count - passed, "time_ms": time_ms}
    return stats
