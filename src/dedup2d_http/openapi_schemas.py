"""
JSON Schemas of the types that the API shows, by msgspec; and what msgspec leaves out of them.

It says nothing of the validators of attrs classes. They are looked at here: bounds, choices, and any
validator that has a `schema` of its own (`dedup2d.search_params.Between`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_type_hints

import attrs
import msgspec

__all__ = ["schemas_of", "validated"]

_REFERENCE = "#/components/schemas/{name}"


def schemas_of(shapes: Iterable[type]) -> tuple[dict[type, dict[str, Any]], dict[str, dict[str, Any]]]:
    """
    Return for each of *shapes* how it is referred to, and the schemas by name.

    They are those of answers: every field is always there, and none has a default.
    """
    wanted = sorted(set(shapes), key=lambda shape: shape.__name__)
    references, components = msgspec.json.schema_components(wanted, ref_template=_REFERENCE)
    for shape in _classes_in(wanted):
        _complete(components[shape.__name__], shape)
    return dict(zip(wanted, references, strict=True)), components


def validated(validator: Any) -> dict[str, Any]:
    """Return what *validator*, of an attrs field, demands, in JSON Schema, as far as it tells."""
    if parts := getattr(validator, "_validators", None):
        return {name: value for part in parts for name, value in validated(part).items()}
    if options := getattr(validator, "options", None):  # of attrs.validators.in_
        return {"enum": list(options)}
    return dict(getattr(validator, "schema", {}))


def _complete(schema: dict[str, Any], shape: type) -> None:
    schema.pop("title", None)
    if not attrs.has(shape):
        return
    properties = schema["properties"]
    for each in attrs.fields(shape):
        properties[each.name].update(validated(each.validator))
        properties[each.name].pop("default", None)
    schema["required"] = list(properties)
    if shape.__doc__:
        schema["description"] = _first_paragraph(shape.__doc__)


def _first_paragraph(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())


def _classes_in(hints: Iterable[Any]) -> Iterator[type]:
    """Give each class of ours in *hints* once, and those in its fields."""
    seen: set[Any] = set()
    waiting = list(hints)
    while waiting:
        hint = waiting.pop()
        if hint in seen:
            continue
        seen.add(hint)
        waiting += get_args(hint)
        if isinstance(hint, type) and attrs.has(hint):
            fields: Mapping[str, Any] = get_type_hints(hint)
            waiting += [fields[each.name] for each in attrs.fields(hint)]
            yield hint
