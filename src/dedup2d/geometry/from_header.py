"""What a DXF document says about the drawing as a whole: units, properties, and what its title block says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ezdxf.document import Drawing
from ezdxf.entities.insert import Insert
from ezdxf.units import decode

from dedup2d.geometry.from_entities import attributes_of, text_of

__all__ = ["describe"]

_SEPARATORS = re.compile(r"[\s_.:#\-/()]+")
_MOST_PROPERTIES = 100
_MOST_BLOCKS = 20_000
_LONGEST = 500

_NAMES: dict[str, tuple[str, ...]] = {
    "drawing_number": (
        "DRAWINGNUMBER",
        "DRAWINGNO",
        "DRAWINGNR",
        "DWGNUMBER",
        "DWGNO",
        "DWGNR",
        "DRGNO",
        "DOCUMENTNUMBER",
        "DOCNO",
        "ZEICHNUNGSNUMMER",
        "ZEICHNUNGSNR",
        "ZEICHNUNGNR",
        "ZEICHNR",
        "NUMERODEPLAN",
        "NUMEROPLAN",
        "PLANNO",
        "NUMERODIDISEGNO",
        "TEKENINGNUMMER",
        "RITNINGSNUMMER",
        "NUMERODEPLANO",
        "图号",
        "图纸编号",
        "圖號",
        "図番",
        "図面番号",
    ),
    "revision": ("REVISION", "REV", "REVNO", "REVISIONNUMBER", "INDEX", "AENDERUNGSINDEX", "版本", "版次"),
    "title": ("TITLE", "DRAWINGTITLE", "TITLE1", "BENENNUNG", "TITEL", "DESIGNATION", "名称", "图名"),
}
"""What title blocks call each, without separators and in upper case; the first that is found counts."""


def describe(document: Drawing, warnings: list[str]) -> dict[str, Any]:
    """
    Return `meta` of the geometry JSON.

    Drawing number, revision and title are taken only from attributes and properties that are named so, and
    only where the file gives one answer.
    """
    meta: dict[str, Any] = {}
    unit = _unit(document)
    if unit:
        meta["units"] = unit
    properties = dict(_properties(document))
    if properties:
        meta["properties"] = properties
    named = [*_attributes(document), *properties.items()]
    for field, names in _NAMES.items():
        values = _values(named, names)
        if len(values) > 1 and field == "drawing_number":
            shown = ", ".join(values[:3])
            warnings.append(f"the title blocks give {len(values)} drawing numbers ({shown}): none is taken")
        elif len(values) == 1:
            meta[field] = values[0]
    return meta


def _unit(document: Drawing) -> str | None:
    try:
        return decode(int(document.header.get("$INSUNITS", 0)))
    except (TypeError, ValueError, IndexError):
        return None


def _properties(document: Drawing) -> Iterator[tuple[str, str]]:
    """Give the file's own properties, as CAD shows them under custom properties."""
    for name, value in document.header.custom_vars.properties[:_MOST_PROPERTIES]:
        key, text = text_of(str(name))[:_LONGEST], text_of(str(value))[:_LONGEST]
        if key and text:
            yield key, text


def _attributes(document: Drawing) -> Iterator[tuple[str, str]]:
    left = _MOST_BLOCKS
    for layout in document.layouts:
        for entity in layout:
            if not isinstance(entity, Insert):
                continue
            left -= 1
            if left < 0:
                return
            try:
                yield from attributes_of(entity)
            except Exception:  # noqa: BLE001, S112 - a damaged attribute names nothing
                continue


def _values(named: Iterable[tuple[str, str]], names: tuple[str, ...]) -> list[str]:
    """Return the different values under the first of *names* that has any."""
    found: dict[str, list[str]] = {}
    for tag, text in named:
        name, value = _SEPARATORS.sub("", tag).upper(), text[:_LONGEST].strip()
        if name in names and value.strip("-_. "):
            found.setdefault(name, []).append(value)
    for name in names:
        if name in found:
            return list(dict.fromkeys(found[name]))
    return []
