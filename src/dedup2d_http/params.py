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

from attrs import evolve, field, frozen
from starlette.requests import Request

from dedup2d.callbacks.guard_url import MAX_URL_LENGTH
from dedup2d.errors import InvalidParameterError, shown
from dedup2d.presets import PRESETS
from dedup2d.search_params import IGNORED_PLACES, MAX_IGNORED, ignored_of
from dedup2d.types import MAX_RESULTS_LIMIT, Area, JobStatus, Mode, PrecisionProfile, VersionGate

__all__ = [
    "LISTING",
    "PARAMETERS",
    "PRECISION_FIELDS",
    "SEARCH_FIELDS",
    "SEARCH_QUERY",
    "STATUS_LISTING",
    "Reader",
    "SearchQuery",
    "no_query",
    "read_query",
    "search_query",
    "whole",
]

_MAX_PARAMETERS = 64
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{0,40}\.?[0-9]{1,40}([eE][+-]?[0-9]{1,3})?")
_YES_NO = {"true": True, "1": True, "false": False, "0": False}
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u00a0\u00ad\u2028\u2029\ud800-\udfff]*$"
"""About what `str.isprintable` takes; the rest of it cannot be said in a pattern."""


@frozen
class Reader:
    """
    Reads one parameter.

    Args:
        read: turns its name and text into its value, or raises InvalidParameterError.
        schema: the JSON Schema of what is taken, for the reference.
        text: what it does, for the reference.
        many: whether it may come several times; its values are then tuples, and joined.
    """

    read: Callable[[str, str], Any]
    schema: Mapping[str, Any]
    text: str = field(default="", kw_only=True)
    many: bool = field(default=False, kw_only=True)

    def __call__(self, name: str, text: str) -> Any:
        return self.read(name, text)

    def saying(self, text: str) -> Reader:
        """Return the same reader with another text."""
        return evolve(self, text=text)


def _yes_no(name: str, text: str) -> bool:
    try:
        return _YES_NO[text.lower()]
    except KeyError:
        raise InvalidParameterError(name, text, "true or false") from None


yes_no = Reader(_yes_no, {"type": "boolean"})


def whole(low: int, high: int) -> Reader:
    def read(name: str, text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise InvalidParameterError(name, text, f"a whole number from {low} to {high}")
        return int(text)

    return Reader(read, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float) -> Reader:
    def read(name: str, text: str) -> float:
        value = float(text) if _DECIMAL.fullmatch(text) else math.nan
        if not low <= value <= high:
            raise InvalidParameterError(name, text, f"a number from {low:g} to {high:g}")
        return value

    return Reader(read, {"type": "number", "minimum": low, "maximum": high})


def one_of(*allowed: str) -> Reader:
    """Read one of *allowed*, or of the members of an enumeration, which are then the value."""

    def read(name: str, text: str) -> str:
        if text not in allowed:
            raise InvalidParameterError(name, text, "one of " + ", ".join(allowed))
        return allowed[allowed.index(text)]

    return Reader(read, {"type": "string", "enum": list(allowed)})


def text_of(longest: int) -> Reader:
    def read(name: str, text: str) -> str:
        if not 1 <= len(text) <= longest or not text.isprintable():
            raise InvalidParameterError(name, text, f"1 to {longest} printable characters")
        return text

    return Reader(read, {"type": "string", "minLength": 1, "maxLength": longest, "pattern": _PRINTABLE})


def _ignored(_: str, text: str) -> tuple[Area | str, ...]:
    return tuple(ignored_of(part) for part in text.split(";"))


ignored = Reader(
    _ignored,
    {
        "type": "array",
        "maxItems": MAX_IGNORED,
        "items": {"anyOf": [{"enum": list(IGNORED_PLACES)}, {"type": "string", "format": "area"}]},
    },
    many=True,
)


def only(allowed: str, why: str) -> Reader:
    def read(name: str, text: str) -> str:
        if text != allowed:
            raise InvalidParameterError(name, text, f"{allowed} or leave it out: {why}")
        return text

    return Reader(read, {"type": "string", "enum": [allowed]})


# Whether it may be called is the service's to say, which knows what is allowed.
callback_url = Reader(
    lambda _, text: text, {"type": "string", "format": "callback-url", "maxLength": MAX_URL_LENGTH}
)

SEARCH_FIELDS: Mapping[str, Reader] = {
    "mode": one_of(*Mode).saying("how deep the search goes: hashes only, verify the best, verify many"),
    "max_results": whole(1, MAX_RESULTS_LIMIT).saying("most matches returned"),
    "compute_diff": yes_no.saying("add a difference picture and regions to the best matches"),
    "diff_top_n": whole(0, 50).saying("how many matches get a difference picture"),
    "enable_ml": yes_no.saying("ask a learned embedding for further candidates, where one is set"),
    "enable_geometric": yes_no.saying("verify candidates geometrically, unless mode is fast"),
    "exclude_self": yes_no.saying("leave out drawings whose file has the same bytes"),
    "duplicate_threshold": number(0, 1).saying("least similarity of a duplicate"),
    "similar_threshold": number(0, 1).saying("least similarity of a similar; at most duplicate_threshold"),
    "ignore": ignored.saying(
        "leave a part of the sheet out: X,Y,WIDTH,HEIGHT in shares 0 to 1 from the top left, or its name"
    ),
}

_STEERING: Mapping[str, Reader] = {
    "async": yes_no.saying("answer with a job"),
    "callback_url": callback_url.saying("https URL that is posted the end of the job; makes a job of it"),
    "preset": one_of(*PRESETS).saying("sets several parameters; those of the request itself win"),
    "file_key": text_of(200).saying(
        "search by a file that was put under the key of an offer; without a body"
    ),
    "file_name": text_of(255).saying("what the drawing is called; only with file_key"),
}
PRECISION_FIELDS: Mapping[str, Reader] = {
    "enable_precision": yes_no.saying("score the best matches by geometry, where geom_json came"),
    "precision_profile": one_of(*PrecisionProfile).saying(
        "whether geometries are scored as one drawing or as versions of one"
    ),
    "precision_top_n": whole(1, MAX_RESULTS_LIMIT).saying("how many matches are scored by geometry"),
    "precision_visual_weight": number(0, 1).saying("weight of what the pictures say in the similarity"),
    "precision_geom_weight": number(0, 1).saying("weight of what the geometry says; not both are 0"),
    "precision_compute_diff": yes_no.saying("say of the best matches in what their geometry differs"),
    "precision_diff_top_n": whole(0, 50).saying("of how many matches"),
    "precision_diff_max_paths": whole(1, 2000).saying("most differences told of each"),
    "version_gate": one_of(*VersionGate).saying(
        "what matches must share in the profile version: drawing numbers, file names without version,"
        " whichever is known, or nothing"
    ),
}
"""What acts on geometry that comes with the drawing; no vision server is told of it."""

PARAMETERS: Mapping[str, Reader] = {**SEARCH_FIELDS, **PRECISION_FIELDS}
"""All that presets and configurations can set too."""

SEARCH_QUERY: Mapping[str, Reader] = {**SEARCH_FIELDS, **_STEERING, **PRECISION_FIELDS}
"""All that the query of a search may hold."""

_PAGE_TOKEN = text_of(1024)
LISTING: Mapping[str, Reader] = {
    "limit": whole(1, 500).saying("most entries of a page"),
    "page_token": evolve(
        _PAGE_TOKEN, schema={**_PAGE_TOKEN.schema, "format": "page-token"}, text="next_page_token of a page"
    ),
}
STATUS_LISTING: Mapping[str, Reader] = {
    **LISTING,
    "status": one_of(*JobStatus).saying("only jobs that are in this state"),
}


@frozen(kw_only=True)
class SearchQuery:
    """
    What the query of a search asks for.

    `given` are the parameters that it gives itself; the others come from elsewhere (`dedup2d.parameters`).
    """

    given: Mapping[str, Any]
    run_async: bool
    preset: str | None = None
    file_key: str | None = None
    file_name: str | None = None
    callback_url: str | None = None


def search_query(request: Request) -> SearchQuery:
    """
    Read the query of a search.

    Raises:
        InvalidParameterError: something in it is not allowed.
    """
    given = read_query(request, SEARCH_QUERY)
    if "file_name" in given and "file_key" not in given:
        raise InvalidParameterError("file_name", given["file_name"], "it only with file_key")
    return SearchQuery(
        given={name: value for name, value in given.items() if name in PARAMETERS},
        preset=given.get("preset"),
        run_async=given.get("async", False),
        file_key=given.get("file_key"),
        file_name=given.get("file_name"),
        callback_url=given.get("callback_url"),
    )


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
        elif readers[name].many:
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
