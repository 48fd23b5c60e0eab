"""
SVG with resvg, after everything that reaches outside of the file was taken out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree as ET
from xml.parsers import expat

import cv2
import numpy as np
import resvg_py

from dedup2d.errors import UnreadableDrawingError
from dedup2d.readers.grey import Grey, ink_grey
from dedup2d.readers.model import ReadLimits, Sheet, Source

__all__ = ["sheets"]

_MAX_DEPTH = 200
_SMALL = 0.5  # of the page: less ink is looked at from closer by
_LOOKS = 4  # each up to some 500 times closer
_PALE = 6  # grey levels that ink is darker than paper, at least
_MAX_ENTITY_CHARACTERS = 10_000
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-z]*)\s*$")
_UNITS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
_PHYSICAL = {"mm", "cm", "in", "pt", "pc"}
_INLINE = re.compile(r"data:image/(png|jpe?g|gif|webp)[;,]", re.IGNORECASE)
_REMOVED = "it refers to pictures or parts outside of the file: they are not drawn"


def sheets(source: Source) -> Iterator[Sheet]:
    """Give the one picture."""
    root = _parse(source)
    _check_uses(root, source)
    warnings = (_REMOVED,) if _without_references(root) else ()
    mm_per_unit = _mm_per_unit(root)
    raster = _render(root, source)
    view = _view(root)
    yield Sheet(
        page=1,
        name="",
        format="svg",
        raster=raster,
        warnings=warnings,
        mm_per_pixel=mm_per_unit * view[2] / raster.shape[1] if mm_per_unit and view else None,
    )


def _parse(source: Source) -> ET.Element:
    """Parse with expat itself: ElementTree's own parser tells nothing of declared entities."""
    builder = _Builder(source.name, source.limits)
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.open
    parser.EndElementHandler = builder.close_one
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _entity_declared(source.name)
    try:
        with source.path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise UnreadableDrawingError(
            source.name, f"the SVG is damaged or incomplete (XML: {error})"
        ) from None
    root = builder.close()
    if _local(root) != "svg":
        raise UnreadableDrawingError(source.name, "the SVG has another root than <svg>")
    return root


class _Builder(ET.TreeBuilder):
    """Builds the tree while it is not too large or deep."""

    def __init__(self, name: str, limits: ReadLimits) -> None:
        super().__init__()
        self._name, self._limits = name, limits
        self._count = self._depth = 0

    def open(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        self._depth += 1
        if self._count > self._limits.max_entities:
            raise _too_many(self._name, self._limits)
        if self._depth > _MAX_DEPTH:
            raise UnreadableDrawingError(self._name, f"its elements are nested deeper than {_MAX_DEPTH}")
        self.start(_qualified(tag), {_qualified(key): value for key, value in attributes.items()})

    def close_one(self, tag: str) -> None:
        self._depth -= 1
        self.end(_qualified(tag))


def _qualified(name: str) -> str:
    return "{" + name if "}" in name else name


def _entity_declared(name: str) -> Callable[..., None]:
    """Allow entities of short plain text (drawing programs write some), none that multiply or load."""

    def declared(_: str, is_parameter: bool, value: str | None, *_rest: Any) -> None:
        if value is None or is_parameter or "&" in value or len(value) > _MAX_ENTITY_CHARACTERS:
            raise UnreadableDrawingError(
                name, "it declares XML entities that nest, are long or load other files: save it without them"
            )

    return declared


def _too_many(name: str, limits: ReadLimits) -> UnreadableDrawingError:
    return UnreadableDrawingError(
        name,
        f"with all uses taken apart it has more elements than the limit of {limits.max_entities:,} entities:"
        " simplify it or raise DEDUP2D_READ_MAX_ENTITIES",
    )


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _references(element: ET.Element) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2].lower() == "href":
            yield key, value.strip()


def _without_references(root: ET.Element) -> bool:
    """
    Remove every reference but those inside the file and embedded pixel pictures.

    resvg opens what an `image` names, and pictures that are themselves SVG could name more.
    """
    removed = False
    for element in root.iter():
        for key, value in list(_references(element)):
            if not value.startswith("#") and not _INLINE.match(value):
                removed = removed or _local(element) in {"image", "use", "feImage"}
                del element.attrib[key]
    return removed


def _check_uses(root: ET.Element, source: Source) -> None:
    """Count what all `use` elements come to: ten levels of ten uses are ten thousand million elements."""
    named = {element.get("id"): element for element in root.iter() if element.get("id")}
    known: dict[int, int] = {}

    def weight(element: ET.Element) -> int:
        key = id(element)
        if key not in known:
            known[key] = 1  # a use of an ancestor is an error that resvg leaves out
            total = 1 + sum(weight(child) for child in element)
            if _local(element) == "use":
                total += sum(weight(named[v[1:]]) for _, v in _references(element) if v[1:] in named)
            known[key] = total
        return known[key]

    if weight(root) > source.limits.max_entities:
        raise _too_many(source.name, source.limits)


def _mm_per_unit(root: ET.Element) -> float | None:
    """Millimetres that one user unit covers, where the page's size is given in a unit of length."""
    match = _NUMBER.match(root.get("width", ""))
    length = _length(root.get("width"))
    if not match or not length or match[2] not in _PHYSICAL:
        return None
    view = _view(root)
    return length * 25.4 / 96 / (view[2] if view and view[2] > 0 else length)


def _view(root: ET.Element) -> list[float] | None:
    """The four numbers of the page's view box."""
    try:
        numbers = [float(number) for number in re.split(r"[\s,]+", root.get("viewBox", "").strip()) if number]
    except ValueError:
        return None
    return numbers if len(numbers) == 4 and all(map(math.isfinite, numbers)) else None


def _render(root: ET.Element, source: Source) -> Grey:
    """Render the page, and from closer by while its ink fills little of it."""
    raster = _rendered(root, source)
    for _ in range(_LOOKS):
        # lines thinner than a pixel are pale: what is black may be a small part of all
        paper = int(np.bincount(raster.reshape(-1), minlength=256).argmax())
        ink = np.argwhere(raster < paper - _PALE)
        view = _view(root)
        if not len(ink) or view is None:
            break
        (top, left), (bottom, right) = ink.min(axis=0), ink.max(axis=0) + 1
        if max(bottom - top, right - left) > _SMALL * max(raster.shape):
            break
        scale = view[2] / raster.shape[1]
        margin = max(0.02 * max(bottom - top, right - left), 1)
        x, y = view[0] + (left - margin) * scale, view[1] + (top - margin) * scale
        width, height = (right - left + 2 * margin) * scale, (bottom - top + 2 * margin) * scale
        root.set("viewBox", f"{x} {y} {width} {height}")
        raster = _rendered(root, source)
    return raster


def _rendered(root: ET.Element, source: Source) -> Grey:
    side = source.limits.raster_side
    size = _size(root)
    if size is None:
        root.set("width", str(side))
    else:
        scale = side / max(size)
        root.attrib.setdefault("viewBox", f"0 0 {size[0]} {size[1]}")
        root.set("width", str(max(1, round(size[0] * scale))))
        root.set("height", str(max(1, round(size[1] * scale))))
    png = resvg_py.svg_to_bytes(svg_string=ET.tostring(root, encoding="unicode"), background="white")
    colour = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_COLOR)
    if colour is None:
        raise UnreadableDrawingError(source.name, "the SVG draws nothing")
    return ink_grey(np.asarray(colour, dtype=np.uint8))


def _size(root: ET.Element) -> tuple[float, float] | None:
    """Width and height in any unit; None where the file does not say."""
    view = re.split(r"[\s,]+", root.get("viewBox", "").strip())
    width, height = _length(root.get("width")), _length(root.get("height"))
    if len(view) == 4:
        width, height = _length(view[2]), _length(view[3])
    elif "viewBox" in root.attrib:
        del root.attrib["viewBox"]
    if width and height and 1e-6 < width < 1e9 and 1e-6 < height < 1e9:
        return width, height
    return None


def _length(text: str | None) -> float | None:
    match = _NUMBER.match(text or "")
    if not match or match[2] not in _UNITS:
        return None
    return float(match[1]) * _UNITS[match[2]]
