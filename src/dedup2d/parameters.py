"""
Where the parameters of a search come from: the request, its preset, the tenant's configuration, the default.

One pure function, `effective`, decides for every way in; what it decided stands in the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from attrs import field, fields, frozen

from dedup2d.errors import InvalidParameterError, shown
from dedup2d.presets import PRESETS
from dedup2d.search_params import SearchParams, ignored_of

__all__ = [
    "Effective",
    "EffectiveParameter",
    "ParameterValue",
    "Source",
    "effective",
    "effective_parameters",
    "given_by",
    "preset_values",
    "read_parameters",
]

ParameterValue = bool | int | float | str | tuple[str, ...]
"""A parameter as JSON has it; what to `ignore` is a list of texts."""

_PAIRS = (
    ("similar_threshold", "duplicate_threshold", "at most duplicate_threshold"),
    ("duplicate_threshold", "similar_threshold", "at least similar_threshold"),
)


class Source(StrEnum):
    """Who has set a parameter; an earlier one wins."""

    REQUEST = "request"
    PRESET = "preset"
    TENANT = "tenant"
    DEFAULT = "default"


@frozen(kw_only=True)
class EffectiveParameter:
    """A parameter that a search was made with: its value and who has set it."""

    value: ParameterValue
    source: Source


@frozen(kw_only=True)
class Effective:
    """The parameters of a search, and who has set those that are not the default's."""

    params: SearchParams = field(factory=SearchParams)
    sources: Mapping[str, Source] = field(factory=dict)


def effective(
    *,
    request: Mapping[str, Any],
    preset: str | None = None,
    tenant: Mapping[str, Any] | None = None,
) -> Effective:
    """
    Return the parameters of a search.

    Args:
        request: what the request itself gives, by name.
        preset: the preset that it names.
        tenant: what the tenant's configuration gives.

    Raises:
        InvalidParameterError: a value is not allowed, two do not go together, or there is no such preset.
    """
    layers = (
        (Source.TENANT, tenant or {}),
        (Source.PRESET, preset_values(preset)),
        (Source.REQUEST, request),
    )
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for source, given in layers:
        values |= given
        sources |= dict.fromkeys(given, source)
    _check_order(values, sources)
    return Effective(params=SearchParams(**values), sources=sources)


def given_by(params: SearchParams) -> Effective:
    """Return the parameters that a caller of the library gives as a whole: nothing else has a say."""
    names = [each.name for each in fields(SearchParams) if getattr(params, each.name) != each.default]
    return Effective(params=params, sources=dict.fromkeys(names, Source.REQUEST))


def effective_parameters(
    params: SearchParams, sources: Mapping[str, Source]
) -> dict[str, EffectiveParameter]:
    """Return every parameter with its value and source, for the result."""
    return {
        name: EffectiveParameter(value=value, source=sources.get(name, Source.DEFAULT))
        for name, value in _plain(params)
    }


def preset_values(name: str | None) -> Mapping[str, Any]:
    """
    Return what the preset sets, nothing if *name* is None.

    Raises:
        InvalidParameterError: there is none of that name.
    """
    if name is None:
        return {}
    if name not in PRESETS:
        raise InvalidParameterError("preset", name, "one of " + ", ".join(PRESETS))
    return PRESETS[name].search_params()


def read_parameters(data: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the parameters that JSON gives, each as `SearchParams` takes it.

    Raises:
        InvalidParameterError: one is unknown, or of another type. Ranges are looked at by `effective`.
    """
    known = {each.name: each.default for each in fields(SearchParams)}
    values = {}
    for name, value in data.items():
        if name not in known:
            raise InvalidParameterError(shown(name), value, "only known parameters: " + ", ".join(known))
        values[name] = _read(name, value, known[name])
    return values


def _read(name: str, value: Any, default: Any) -> Any:
    if name == "ignore":
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise InvalidParameterError(name, value, "a list of texts")
        return tuple(ignored_of(each) for each in value)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise InvalidParameterError(name, value, "true or false")
    return value


def _plain(params: SearchParams) -> Iterator[tuple[str, ParameterValue]]:
    for each in fields(SearchParams):
        value = getattr(params, each.name)
        yield each.name, tuple(map(str, value)) if isinstance(value, tuple) else value


def _check_order(values: Mapping[str, Any], sources: Mapping[str, Source]) -> None:
    """Say where the other threshold comes from: the request does not show it."""
    similar, duplicate = (
        values.get(name, getattr(SearchParams(), name))
        for name in ("similar_threshold", "duplicate_threshold")
    )
    numbers = all(isinstance(each, int | float) for each in (similar, duplicate))
    if not numbers or not similar > duplicate:
        return
    by_request = [pair for pair in _PAIRS if sources.get(pair[0]) is Source.REQUEST]
    name, other, allowed = (by_request or _PAIRS)[0]
    source = sources.get(other, Source.DEFAULT)
    value = {"similar_threshold": similar, "duplicate_threshold": duplicate}
    whose = "" if source is Source.REQUEST else f" of the {source}"
    raise InvalidParameterError(name, value[name], f"{allowed} ({value[other]:g}{whose})")
