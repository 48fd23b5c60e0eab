"""
The query of a request, read strictly: what is unknown, given twice or out of range is refused.

Whoever misspells a parameter must not get an answer that silently ignores it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from attrs import frozen
from starlette.requests import Request

from dedup2d.errors import InvalidParameterError, shown
from dedup2d.presets import PRESETS
from dedup2d.search_params import ignored_of
from dedup2d.types import MAX_RESULTS_LIMIT, Area, JobStatus, Mode, SearchParams
from dedup2d_http.problems import HttpError

__all__ = ["SEARCH_FIELDS", "SearchQuery", "listing_query", "no_query", "read_query", "search_query", "whole"]

Reader = Callable[[str, str], Any]
"""Turns the name and the text of a parameter into its value, or raises InvalidParameterError."""

_MAX_PARAMETERS = 64
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{0,18}\.?[0-9]{1,18}")
_YES_NO = {"true": True, "1": True, "false": False, "0": False}


def yes_no(name: str, text: str) -> bool:
    try:
        return _YES_NO[text.lower()]
    except KeyError:
        raise InvalidParameterError(name, text, "true or false") from None


def whole(low: int, high: int) -> Reader:
    def read(name: str, text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise InvalidParameterError(name, text, f"a whole number from {low} to {high}")
        return int(text)

    return read


def number(low: float, high: float) -> Reader:
    def read(name: str, text: str) -> float:
        value = float(text) if _DECIMAL.fullmatch(text) else math.nan
        if not low <= value <= high:
            raise InvalidParameterError(name, text, f"a number from {low:g} to {high:g}")
        return value

    return read


def one_of(*allowed: str) -> Reader:
    def read(name: str, text: str) -> str:
        if text not in allowed:
            raise InvalidParameterError(name, text, "one of " + ", ".join(allowed))
        return text

    return read


def text_of(longest: int) -> Reader:
    def read(name: str, text: str) -> str:
        if not 1 <= len(text) <= longest or not text.isprintable():
            raise InvalidParameterError(name, text, f"1 to {longest} printable characters")
        return text

    return read


def ignored(_: str, text: str) -> tuple[Area | str, ...]:
    return tuple(ignored_of(part) for part in text.split(";"))


def only(allowed: str, why: str) -> Reader:
    def read(name: str, text: str) -> str:
        if text != allowed:
            raise InvalidParameterError(name, text, f"{allowed} or leave it out: {why}")
        return text

    return read


def no_callback(_name: str, _text: str) -> str:
    raise HttpError(
        "CALLBACK_URL_INVALID",
        "this version sends no callbacks: leave callback_url out and poll poll_url, with Prefer: wait=60",
    )


SEARCH_FIELDS: Mapping[str, Reader] = {
    "mode": one_of(*Mode),
    "max_results": whole(1, MAX_RESULTS_LIMIT),
    "compute_diff": yes_no,
    "diff_top_n": whole(0, 50),
    "enable_ml": yes_no,
    "enable_geometric": yes_no,
    "exclude_self": yes_no,
    "duplicate_threshold": number(0, 1),
    "similar_threshold": number(0, 1),
    "ignore": ignored,
}
_REPEATED = frozenset({"ignore"})
"""Parameters that may come several times; their values, tuples, are joined."""

_STEERING: Mapping[str, Reader] = {
    "async": yes_no,
    "callback_url": no_callback,
    "preset": one_of(*PRESETS),
    "file_key": text_of(200),
    "file_name": text_of(255),
}
# These act on geometry sent with the drawing. This version takes none: they are checked, nothing more.
_GEOMETRY: Mapping[str, Reader] = {
    "enable_precision": yes_no,
    "precision_profile": one_of("strict", "version"),
    "precision_top_n": whole(1, MAX_RESULTS_LIMIT),
    "precision_visual_weight": number(0, 1),
    "precision_geom_weight": number(0, 1),
    "precision_compute_diff": yes_no,
    "precision_diff_top_n": whole(0, 50),
    "precision_diff_max_paths": whole(1, 10_000),
    "version_gate": only("off", "this version does not compare drawing numbers"),
}
_LISTING: Mapping[str, Reader] = {"limit": whole(1, 500), "page_token": text_of(1024)}


@frozen(kw_only=True)
class SearchQuery:
    """What the query of a search asks for."""

    params: SearchParams
    run_async: bool
    file_key: str | None = None
    file_name: str | None = None


def search_query(request: Request) -> SearchQuery:
    """
    Read the query of a search; a parameter of its own wins over its preset's.

    Raises:
        InvalidParameterError: something in it is not allowed.
        HttpError: it wants a callback.
    """
    given = read_query(request, {**SEARCH_FIELDS, **_STEERING, **_GEOMETRY})
    preset = PRESETS[given["preset"]].search_params() if "preset" in given else {}
    own = {name: value for name, value in given.items() if name in SEARCH_FIELDS}
    if "file_name" in given and "file_key" not in given:
        raise InvalidParameterError("file_name", given["file_name"], "it only with file_key")
    return SearchQuery(
        params=SearchParams(**{**preset, **own}),
        run_async=given.get("async", False),
        file_key=given.get("file_key"),
        file_name=given.get("file_name"),
    )


def listing_query(request: Request, *, with_status: bool = False) -> dict[str, Any]:
    """
    Read `limit` and `page_token`, and a job's `status`.

    Raises:
        InvalidParameterError: something in it is not allowed.
    """
    readers = {**_LISTING, "status": one_of(*JobStatus)} if with_status else _LISTING
    given = read_query(request, readers)
    if "status" in given:
        given["status"] = JobStatus(given["status"])
    return given


def no_query(request: Request) -> None:
    """
    Make sure that there is no query.

    Raises:
        InvalidParameterError: there is one.
    """
    read_query(request, {})


def read_query(request: Request, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """
    Read each parameter of the query with its reader.

    Raises:
        InvalidParameterError: a parameter is unknown, given twice but not a list, or its reader refuses it.
    """
    values: dict[str, Any] = {}
    for name, text in _pairs(request.scope["query_string"]):
        if name not in readers:
            known = ", ".join(sorted(readers))
            allowed = f"only known parameters ({known})" if known else "no parameters here"
            raise InvalidParameterError(shown(name), text, allowed)
        if name not in values:
            values[name] = readers[name](name, text)
        elif name in _REPEATED:
            values[name] += readers[name](name, text)
        else:
            raise InvalidParameterError(name, text, "it only once")
    return values


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except UnicodeDecodeError:
        raise InvalidParameterError("query", query.decode("latin-1"), "percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidParameterError("query", "...", f"at most {_MAX_PARAMETERS} parameters") from None
