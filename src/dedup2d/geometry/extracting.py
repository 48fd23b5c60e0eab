"""
The v2 geometry JSON of a DXF or DWG file.

Model space is taken, or the first layout with something on it where model space is empty. A file with more
than the geometry JSON may hold is refused rather than cut short: of two halves nobody can say that they are
the same drawing. What cannot be written down (solids, pictures, damaged entities) is counted in a warning.
"""

from __future__ import annotations

import json
import warnings as python_warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from dedup2d.children import Children
from dedup2d.errors import Dedup2DError, MissingExtraError, UnreadableDrawingError
from dedup2d.geometry.from_entities import CONVERTERS, Json, name_of, number
from dedup2d.geometry.from_header import describe
from dedup2d.geometry.model import ENTITY_TYPES
from dedup2d.geometry.reading import GeometryLimits
from dedup2d.readers import ReadLimits, read_document
from dedup2d.readers.dxf_weight import block_weights, weigh
from dedup2d.readers.tape import too_many_entities

try:
    import msgspec
    from ezdxf.document import Drawing
    from ezdxf.entities.dxfgfx import DXFGraphic
    from ezdxf.layouts.blocklayout import BlockLayout
    from ezdxf.lldxf.const import DXFError
    from ezdxf.protocols import virtual_entities
except ImportError:
    raise MissingExtraError("engine", "extracting geometry") from None

__all__ = ["Extracted", "extract", "extract_geometry"]

_MOST = GeometryLimits()
"""What is extracted can be read again."""

_APART = {"MLINE", "ACAD_PROXY_ENTITY"}
_UNSEEN = {"ATTDEF", "POINT", "VIEWPORT"}
_SHOWN_TYPES = 5
_COLOUR_BY_LAYER = 256


@frozen(kw_only=True)
class Extracted:
    """
    The geometry of one file.

    Args:
        data: v2 geometry JSON, at most 10 MiB.
        entities: how many it has, those of blocks included.
        warnings: what is not in it, each a sentence for the user.
    """

    data: bytes
    entities: int
    warnings: tuple[str, ...] = ()


async def extract_geometry(
    children: Children, path: Path, name: str, limits: ReadLimits | None = None
) -> Extracted:
    """
    Do what `extract` does in a child process, for `max_seconds` of *limits* at most.

    Raises: as `extract` and `Children.call`.
    """
    limits = limits or ReadLimits()
    return await children.call(extract, str(path), name, limits, seconds=limits.max_seconds, name=name)


def extract(path: str, name: str, limits: ReadLimits | None = None) -> Extracted:
    """
    Extract the geometry of the DXF (also gzipped) or DWG file at *path*, called *name* in messages.

    Meant to run inside `Children.call`, as `dedup2d.readers.read`, whose limits hold here too.

    Raises:
        NoGeometryError: the file is of a format without entities.
        UnreadableDrawingError: it is damaged, or has more than 200,000 entities or 10 MiB of geometry.
        EmptyFileError, FileTooLargeError, UnsupportedFormatError, ImageTooLargeError, MissingExtraError: as
            `dedup2d.readers.read`.
    """
    limits = limits or ReadLimits()
    document, notes = read_document(Path(path), name, limits)
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # ezdxf warns about files; we say it in our own words
        try:
            return _Extraction(document, name, notes).run(limits)
        except (Dedup2DError, MemoryError):
            raise
        except Exception as error:
            reason = f"its entities are damaged ({type(error).__name__})"
            raise UnreadableDrawingError(name, reason) from error


@define(eq=False)
class _Extraction:
    """One file on its way into JSON; keeps text rather than objects, which need ten times the memory."""

    document: Drawing
    name: str
    warnings: list[str]
    count: int = 0
    size: int = 0
    types: Counter[str] = field(factory=Counter)
    damaged: Counter[str] = field(factory=Counter)
    left_out: Counter[str] = field(factory=Counter)
    layers: dict[str, str] = field(factory=dict)
    wanted: dict[str, str] = field(factory=dict)
    """Blocks to come, by their name in the JSON: their name in the file."""
    drawn: dict[str, str] = field(factory=dict)
    """The blocks that draw dimensions, likewise; CAD numbers them anew with each save."""
    texts: list[str] = field(factory=list)
    dimensions: list[Json] = field(factory=list)
    hatches: list[Json] = field(factory=list)

    def run(self, limits: ReadLimits) -> Extracted:
        space = self._space()
        if weigh(space, block_weights(self.document)) > limits.max_entities:
            raise too_many_entities(self.name, limits.max_entities)
        entities = list(self._written(space))
        blocks = dict(self._blocks())
        blocks |= self._pictures()
        parts: dict[str, Any] = {
            "version": "2.0",
            "layers": self._layers(),
            **self._sections(),
            "meta": describe(self.document, self.warnings),
            "statistics": self._statistics(len(entities), len(blocks)),
        }
        data = ",".join(
            [
                _json(parts).removesuffix("}"),
                f'"entities":[{",".join(entities)}]',
                f'"blocks":{{{",".join(f"{_json(name)}:{text}" for name, text in blocks.items())}}}}}',
            ]
        ).encode()
        if len(data) > _MOST.max_bytes:
            raise self._too_much(f"{_MOST.max_bytes:,} bytes of geometry")
        if not entities:
            raise UnreadableDrawingError(self.name, "it has no entity with geometry")
        self._warn("they are damaged", self.damaged)
        self._warn("it has no form for them", self.left_out)
        return Extracted(data=data, entities=self.count, warnings=tuple(self.warnings))

    def _space(self) -> Iterable[DXFGraphic]:
        model = self.document.modelspace()
        if any(entity.dxftype() in CONVERTERS for entity in model):
            return model
        for layout in self.document.layouts:
            if any(entity.dxftype() in CONVERTERS for entity in layout):
                self.warnings.append(f"model space is empty: the layout {layout.name[:80]} is taken")
                return layout
        return model

    def _blocks(self) -> Iterator[tuple[str, str]]:
        """Give each block that is referred to, also by another block, once."""
        done: set[str] = set()
        while self.wanted:
            name, own_name = self.wanted.popitem()
            block = self.document.blocks.get(own_name)
            if name in done or block is None:
                continue
            done.add(name)
            if len(done) > _MOST.max_blocks:
                raise self._too_much(f"{_MOST.max_blocks:,} blocks")
            if block.block is not None and (block.block.is_xref or block.block.is_xref_overlay):
                self.left_out["XREF"] += 1
                continue
            base = _json(_base_point(block))
            yield name, f'{{"base_point":{base},"entities":[{",".join(self._written(block))}]}}'

    def _pictures(self) -> dict[str, str]:
        """Return the blocks that draw the dimensions, if the limits leave room for all of them."""
        apart = _Extraction(
            self.document,
            self.name,
            [],
            count=self.count,
            size=self.size,
            layers=self.layers,
            wanted=dict(self.drawn),
        )
        try:
            found = dict(apart._blocks())
        except UnreadableDrawingError:
            return {}
        self.count, self.types = apart.count, self.types + apart.types
        return found

    def _written(self, entities: Iterable[DXFGraphic]) -> Iterator[str]:
        for entity in entities:
            kind = entity.dxftype()
            if kind in _UNSEEN or _is_invisible(entity):
                continue
            if kind in _APART:
                yield from self._apart(entity)
            elif kind not in CONVERTERS:
                self.left_out[kind] += 1
            else:
                yield from self._written_as(entity)

    def _apart(self, entity: DXFGraphic) -> Iterator[str]:
        """Give what an entity is drawn with in its place."""
        try:
            parts = list(virtual_entities(entity))  # type: ignore[arg-type]  # the kinds that come here can be taken apart
        except Exception:  # noqa: BLE001 - any defect of the file
            self.damaged[entity.dxftype()] += 1
            return
        known = [part for part in parts if part.dxftype() in CONVERTERS]
        if not known:
            self.left_out[entity.dxftype()] += 1
        for part in known:
            yield from self._written_as(part)

    def _written_as(self, entity: DXFGraphic) -> list[str]:
        """Return what one entity is in JSON: one or several, none if it cannot be said or is damaged."""
        kind, convert = CONVERTERS[entity.dxftype()]
        try:
            layer = self._layer_of(entity)
            made = convert(entity)
            found: list[Json] = [
                {"type": kind, "layer": layer, **one} for one in (made if isinstance(made, list) else [made])
            ]
            blocks = {name_of(one["name"]): one["name"] for one in found if kind == "INSERT"}
            for name in blocks:
                found[0]["name"] = name
            if kind == "DIMENSION" and self._is_drawn(entity):
                found[0]["block"] = f"*DIMENSION{len(self.drawn) + 1}"
            for one in found:
                msgspec.convert(one, ENTITY_TYPES[kind])
        except NotImplementedError:
            self.left_out[entity.dxftype()] += 1
            return []
        except (MemoryError, Dedup2DError):
            raise
        except Exception:  # noqa: BLE001 - any defect of the file
            self.damaged[entity.dxftype()] += 1
            return []
        self.wanted.update(blocks)
        if "block" in found[0]:
            self.drawn[found[0]["block"]] = str(entity.dxf.geometry)
        texts = [_json(one) for one in found]
        for one, text in zip(found, texts, strict=True):
            self._count(one, len(text))
        return texts

    def _is_drawn(self, dimension: DXFGraphic) -> bool:
        name = dimension.dxf.get("geometry")
        return bool(name) and self.document.blocks.get(name) is not None

    def _layer_of(self, entity: DXFGraphic) -> str:
        """Return the name as the table of layers writes it: capital and small letters are the same in CAD."""
        name = str(entity.dxf.get("layer", "0"))
        if name not in self.layers:
            declared = self.document.layers.get(name) if self.document.layers.has_entry(name) else None
            if len(self.layers) >= _MOST.max_layers:
                raise self._too_much(f"{_MOST.max_layers:,} layers")
            self.layers[name] = name_of(name if declared is None else declared.dxf.name)
        return self.layers[name]

    def _count(self, found: Json, size: int) -> None:
        self.count += 1
        self.size += size
        self.types[found["type"]] += 1
        if self.count > _MOST.max_entities:
            raise self._too_much(f"{_MOST.max_entities:,} entities, those of blocks included")
        if self.size > _MOST.max_bytes:
            raise self._too_much(f"{_MOST.max_bytes:,} bytes of geometry")
        self._collect(found)

    def _too_much(self, limit: str) -> UnreadableDrawingError:
        return UnreadableDrawingError(
            self.name,
            f"its geometry is above the limit of {limit}: it is compared as a picture only, or split it",
        )

    def _collect(self, found: Json) -> None:
        """Note what the sections beside the entities tell once more."""
        if found["type"] == "INSERT":
            self.texts.extend(attribute["text"] for attribute in found.get("attributes", ()))
        elif found["type"] == "DIMENSION":
            kept = ("layer", "dimension_type", "value", "text")
            self.dimensions.append({name: found[name] for name in kept if name in found})
        elif found["type"] == "HATCH":
            self.hatches.append({name: found[name] for name in ("layer", "pattern", "solid", "area")})
        elif "text" in found:
            self.texts.append(found["text"])

    def _sections(self) -> dict[str, list[Any]]:
        """Give the sections that repeat what stands among the entities, if the limit leaves room for them."""
        sections: dict[str, list[Any]] = {
            "dimensions": self.dimensions,
            "hatches": self.hatches,
            "text_content": [text for text in self.texts if text],
        }
        room = _MOST.max_entities - self.count
        return sections if sum(map(len, sections.values())) <= room else {}

    def _layers(self) -> Json:
        return {name: self._layer(name) for name in sorted(set(self.layers.values()))}

    def _layer(self, name: str) -> Json:
        try:
            layer = self.document.layers.get(name)
            rgb = layer.rgb
            colour: int | str = abs(layer.dxf.color) if rgb is None else "#{:02x}{:02x}{:02x}".format(*rgb)
            return {"color": colour, "linetype": name_of(layer.dxf.linetype)}
        except (DXFError, TypeError, ValueError, AttributeError):  # it is used without being declared
            return {"color": 7, "linetype": "Continuous"}

    def _statistics(self, entities: int, blocks: int) -> Json:
        return {
            "entities": entities,
            "entities_of_blocks": self.count - entities,
            "blocks": blocks,
            "layers": len(set(self.layers.values())),
            "by_type": dict(sorted(self.types.items())),
        }

    def _warn(self, why: str, counted: Counter[str]) -> None:
        if counted:
            kinds = ", ".join(f"{count:,} {kind[:40]}" for kind, count in counted.most_common(_SHOWN_TYPES))
            more = " and others" if len(counted) > _SHOWN_TYPES else ""
            self.warnings.append(f"not in the geometry, as {why}: {kinds}{more}")


def _is_invisible(entity: DXFGraphic) -> bool:
    return entity.dxf.is_supported("invisible") and bool(entity.dxf.get("invisible", 0))


def _base_point(block: BlockLayout) -> list[float]:
    try:
        return [number(block.base_point[0]), number(block.base_point[1])]
    except (TypeError, ValueError, IndexError, AttributeError):
        return [0.0, 0.0]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
