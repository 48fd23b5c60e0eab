"""Reading v2 geometry JSON from outside, under limits."""

from __future__ import annotations

import gc
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from attrs import field, frozen, validators

from dedup2d.errors import InvalidGeometryError, MissingExtraError, shown
from dedup2d.geometry.aliases import TYPE_ALIASES, TYPE_FIELDS, UNUSUAL_FIELDS, renamed, without_objects
from dedup2d.geometry.model import ENTITY_TYPES, Block, Dimension, Entity, Geometry, Hatch, Layer, Point, Text

try:
    import msgspec
    import numpy as np
except ImportError:
    raise MissingExtraError("engine", "reading geometry") from None

__all__ = ["GeometryLimits", "read_geometry"]

T = TypeVar("T")

_LISTS = ("entities", "dimensions", "hatches", "text_content")
_OBJECTS = ("layers", "blocks", "meta", "statistics")
_NOT_JSON_NUMBER = re.compile(rb"(?<![\w\"])-?(NaN|Infinity|nan|inf)\b")
_TYPE_FIELDS = frozenset(TYPE_FIELDS)
_BLOCK = 256 * 1024
_PLACE = re.compile(r" - at `\$(.*)`$")
_IN_LIST = re.compile(r"^\[(\d+)\](.*)$")


@frozen(kw_only=True)
class GeometryLimits:
    """
    What geometry may cost to be read.

    Args:
        max_bytes: of the JSON.
        max_depth: arrays and objects inside each other.
        max_entities: in all lists and blocks together.
        max_blocks: definitions.
        max_layers: names.
        max_warnings: kinds of unknown entities named.
    """

    max_bytes: int = field(default=10 * 1024**2, validator=validators.ge(1))
    max_depth: int = field(default=64, validator=[validators.ge(8), validators.le(200)])
    max_entities: int = field(default=200_000, validator=validators.ge(1))
    max_blocks: int = field(default=20_000, validator=validators.ge(1))
    max_layers: int = field(default=20_000, validator=validators.ge(1))
    max_warnings: int = field(default=20, validator=validators.ge(1))


def read_geometry(data: bytes, limits: GeometryLimits | None = None) -> Geometry:
    """
    Return the geometry that *data* holds.

    Sections that are missing are empty, unknown fields are left out, entities of unknown types are counted in
    its `warnings`.

    Raises:
        InvalidGeometryError: *data* is not JSON, exceeds a limit, or a value is of the wrong type.
    """
    limits = limits or GeometryLimits()
    if len(data) > limits.max_bytes:
        raise InvalidGeometryError(
            "the document", f"is larger than the limit of {limits.max_bytes:,} bytes", "send less detail"
        )
    _check_depth(data, limits.max_depth)
    with _collector_paused():
        return _Reading(limits).geometry(_sections(data))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the collector from walking a million new objects, none of them garbage: it took two thirds."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _check_depth(data: bytes, limit: int) -> None:
    """Count brackets outside of strings, without recursion, up to where there are too many."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    depth, quotes_before = 0, 0
    for start in range(0, len(data), _BLOCK):
        codes = np.frombuffer(data, np.uint8, min(_BLOCK, len(data) - start), start)
        opening = (codes == ord("[")) | (codes == ord("{"))
        closing = (codes == ord("]")) | (codes == ord("}"))
        quotes = codes == ord('"')
        at = np.flatnonzero(opening | closing | quotes)
        if not at.size:
            continue
        counted = quotes_before + np.cumsum(quotes[at], dtype=np.int32)
        steps = np.where(counted & 1, 0, opening[at].astype(np.int32) - closing[at])
        depths = depth + np.cumsum(steps, dtype=np.int32)
        if int(depths.max()) > limit:
            raise InvalidGeometryError(
                "the document", f"is nested deeper than the limit of {limit} levels", "send v2 geometry JSON"
            )
        depth, quotes_before = int(depths[-1]), int(counted[-1])


def _sections(data: bytes) -> dict[str, msgspec.Raw]:
    """Take the document apart without reading the sections."""
    if not data.strip():
        raise InvalidGeometryError("the document", "is empty")
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        raise _wrong_type(error, "the document") from error
    except (ValueError, RecursionError) as error:
        raise _not_json(data, error) from error


def _not_json(data: bytes, error: Exception) -> InvalidGeometryError:
    odd = _NOT_JSON_NUMBER.search(data)
    if odd is not None:
        return InvalidGeometryError(
            f"byte {odd.start()}",
            f"is {odd.group().decode()}, which is no JSON number",
            "send finite numbers only, and leave out what has none",
        )
    return InvalidGeometryError("the document", f"is not JSON ({error})")


def _wrong_type(error: Exception, path: str) -> InvalidGeometryError:
    """Say what msgspec found, under *path*."""
    text = str(error)
    place = _PLACE.search(text)
    if place is not None:
        path += place.group(1)
        text = text[: place.start()]
    return InvalidGeometryError(path, _said(text))


def _said(text: str) -> str:
    return f"has a wrong value: {text[:1].lower()}{text[1:]}"


@frozen
class _Reading:
    limits: GeometryLimits
    unknown: Counter[str] = field(factory=Counter)
    counted: Counter[str] = field(factory=Counter)

    def geometry(self, sections: Mapping[str, msgspec.Raw]) -> Geometry:
        present = {name: raw for name, raw in sections.items() if bytes(raw) != b"null"}
        lists = {name: self._counted(present, name) for name in _LISTS}
        objects = {name: self._object(present, name) for name in _OBJECTS}
        layers = self._layers(objects["layers"])
        blocks = self._blocks(objects["blocks"])
        _check_meta(objects["meta"])
        return Geometry(
            layers=layers,
            entities=self._entities(_values(lists["entities"], "entities"), "entities"),
            blocks=blocks,
            dimensions=self._all_of("DIMENSION", Dimension, lists["dimensions"], "dimensions"),
            hatches=self._all_of("HATCH", Hatch, lists["hatches"], "hatches"),
            text_content=self._all_of("TEXT", Text, lists["text_content"], "text_content"),
            meta=objects["meta"],
            statistics=objects["statistics"],
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        named = [
            f"{count:,} entities of type {shown(kind, 40)} are not compared"
            for kind, count in self.unknown.most_common(self.limits.max_warnings)
        ]
        if len(self.unknown) > len(named):
            named.append(f"{len(self.unknown) - len(named):,} further types of entities are not compared")
        return tuple(named)

    def _counted(self, sections: Mapping[str, msgspec.Raw], name: str) -> msgspec.Raw | None:
        """Return a list without having read what is in it."""
        if name not in sections:
            return None
        self._count(len(_decoded(sections[name], list[msgspec.Raw], name)), name)
        return sections[name]

    def _count(self, number: int, path: str) -> None:
        self.counted["all"] += number
        if self.counted["all"] > self.limits.max_entities:
            raise InvalidGeometryError(
                path,
                f"brings more than the limit of {self.limits.max_entities:,} entities (blocks included)",
                "send one sheet, or less detail",
            )

    def _object(self, sections: Mapping[str, msgspec.Raw], name: str) -> dict[str, Any]:
        if name not in sections:
            return {}
        found = _decoded(sections[name], dict[str, Any], name)
        limit = {"layers": self.limits.max_layers, "blocks": self.limits.max_blocks}.get(name, 10_000)
        if len(found) > limit:
            raise InvalidGeometryError(name, f"has more than the limit of {limit:,} names", "send fewer")
        return found

    def _layers(self, found: Mapping[str, Any]) -> dict[str, Layer]:
        layers = {}
        for name, value in found.items():
            path = f"layers.{shown(name, 60)}"
            known = {} if value is None else value
            if isinstance(known, dict):
                known = {n: v for n, v in known.items() if v is not None}
                if isinstance(known.get("color"), list):  # true colours come as three numbers
                    known["color"] = ",".join(map(str, known["color"][:4]))
            layers[name] = _converted(known, Layer, path)
        return layers

    def _blocks(self, found: Mapping[str, Any]) -> dict[str, Block]:
        blocks = {}
        for name, value in found.items():
            path = f"blocks.{shown(name, 60)}"
            known = {"entities": value} if isinstance(value, list) else value
            if not isinstance(known, dict):
                raise InvalidGeometryError(path, f"has a wrong value: expected `object`, got {_kind(value)}")
            items = known.get("entities") or []
            if not isinstance(items, list):
                raise InvalidGeometryError(
                    f"{path}.entities", f"has a wrong value: expected `array`, got {_kind(items)}"
                )
            self._count(len(items), path)
            base = without_objects(known.get("base_point") or [0.0, 0.0])
            blocks[name] = Block(
                base_point=_converted(base, Point, f"{path}.base_point"),
                entities=self._entities(items, f"{path}.entities"),
            )
        return blocks

    def _entities(self, items: list[Any], path: str) -> tuple[Entity, ...]:
        """Sort by type, since one call for all of a type takes a tenth of the time of one for each."""
        groups: dict[str, tuple[list[int], list[dict[str, Any]]]] = defaultdict(lambda: ([], []))
        for position, item in enumerate(items):
            kind = item.get("type") if isinstance(item, dict) else None
            if not isinstance(kind, str) or kind not in ENTITY_TYPES:
                kind = self._kind_of(item, f"{path}[{position}]")
            if kind in ENTITY_TYPES:
                positions, group = groups[kind]
                positions.append(position)
                group.append(item)
            else:
                self.unknown[kind] += 1
        found: dict[int, Entity] = {}
        for kind, (positions, group) in groups.items():
            entities = _group(kind, ENTITY_TYPES[kind], group, positions, path)
            found.update(zip(positions, entities, strict=True))
        return tuple(found[position] for position in sorted(found))

    def _kind_of(self, item: object, path: str) -> str:
        if not isinstance(item, dict):
            raise InvalidGeometryError(path, f"has a wrong value: expected `object`, got {_kind(item)}")
        for name in TYPE_FIELDS:
            kind = item.get(name)
            if kind is None:
                continue
            if not isinstance(kind, str):
                raise InvalidGeometryError(
                    f"{path}.{name}", f"has a wrong value: expected `string`, got {_kind(kind)}"
                )
            kind = kind.strip().upper()
            return TYPE_ALIASES.get(kind, kind)
        return "without a type"

    def _all_of(self, kind: str, as_type: type[T], items: msgspec.Raw | None, path: str) -> tuple[T, ...]:
        # What such a section calls `type` is the type of the dimension or hatch, not of the entity.
        fields = []
        for position, item in enumerate(_values(items, path)):
            known = {"text": item} if kind == "TEXT" and isinstance(item, str) else item
            if not isinstance(known, dict):
                wanted = "`string` or `object`" if kind == "TEXT" else "`object`"
                raise InvalidGeometryError(
                    f"{path}[{position}]", f"has a wrong value: expected {wanted}, got {_kind(item)}"
                )
            fields.append(_as_section_item(kind, known))
        return tuple(_group(kind, as_type, fields, range(len(fields)), path))


def _as_section_item(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    if _TYPE_FIELDS.isdisjoint(item):
        return item
    said = item.get("type")
    ours = {name: value for name, value in item.items() if name not in TYPE_FIELDS}
    if kind == "DIMENSION" and isinstance(said, int | str) and str(said).upper() != "DIMENSION":
        ours.setdefault("dimension_type", said)
    return ours


def _group(
    kind: str, as_type: type[T], group: list[dict[str, Any]], positions: Sequence[int], path: str
) -> list[T]:
    """Convert entities of one *kind* at once, and once more where some are written in another way."""
    unusual = UNUSUAL_FIELDS[kind]
    usual = [
        item if item.get("type") == kind and unusual.isdisjoint(item) else _named(kind, item)
        for item in group
    ]
    try:
        return _all_converted(usual, as_type)
    except msgspec.ValidationError as error:
        first = _index(error)

    def other_way(chosen: Sequence[int]) -> list[T]:
        try:
            return _all_converted([without_objects(usual[one]) for one in chosen], as_type)
        except msgspec.ValidationError as error:
            raise _in_group(error, [positions[one] for one in chosen], path) from error

    other_way([first])  # what is plainly wrong is said before all are read once more
    return other_way(range(len(group)))


def _all_converted(fields: list[dict[str, Any]], as_type: type[T]) -> list[T]:
    return msgspec.convert(fields, list[as_type])  # type: ignore[valid-type]  # a type made at run time


def _index(error: Exception) -> int:
    """Return which of a list did not fit, the first where msgspec does not say."""
    place = _PLACE.search(str(error))
    item = _IN_LIST.match(place.group(1)) if place is not None else None
    return 0 if item is None else int(item.group(1))


def _in_group(error: Exception, positions: Sequence[int], path: str) -> InvalidGeometryError:
    """Say what is wrong with one of a group, under its position in the list at *path*."""
    text = str(error)
    place = _PLACE.search(text)
    item = _IN_LIST.match(place.group(1)) if place is not None else None
    if place is None or item is None:
        return _wrong_type(error, path)
    said = text[: place.start()]
    return InvalidGeometryError(f"{path}[{positions[_index(error)]}]{item.group(2)}", _said(said))


def _named(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    fields = renamed(kind, item)
    if fields.get("type") == kind:
        return fields
    if fields is item:
        return {**fields, "type": kind}
    fields["type"] = kind
    return fields


def _values(section: msgspec.Raw | None, path: str) -> list[Any]:
    return [] if section is None else _decoded(section, list[Any], path)


def _decoded(raw: msgspec.Raw, as_type: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(raw, type=as_type)
    except (ValueError, RecursionError) as error:
        raise _wrong_type(error, path) from error


def _converted(value: Any, as_type: Any, path: str) -> Any:
    try:
        return msgspec.convert(value, as_type)
    except (ValueError, RecursionError) as error:
        raise _wrong_type(error, path) from error


def _check_meta(meta: Mapping[str, Any]) -> None:
    for name in ("drawing_number", "units", "unit"):
        value = meta.get(name)
        if value is not None and (not isinstance(value, int | str) or isinstance(value, bool)):
            raise InvalidGeometryError(
                f"meta.{name}", f"has a wrong value: expected `string`, got {_kind(value)}"
            )
        if isinstance(value, str) and len(value) > 1_000:
            raise InvalidGeometryError(f"meta.{name}", "is longer than the limit of 1,000 characters")


_KINDS = {dict: "object", list: "array", str: "string", bool: "bool", int: "int", float: "float"}


def _kind(value: Any) -> str:
    return f"`{_KINDS.get(type(value), 'null')}`"
