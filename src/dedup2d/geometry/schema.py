"""The JSON Schema of the v2 geometry JSON, made of the model."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from dedup2d.geometry.model import ENTITY_TYPES, Attribute, Block, Dimension, Geometry, Hatch, Layer, Text

__all__ = ["json_schema"]

_TITLE = "dedup2d v2 geometry JSON"


def json_schema() -> dict[str, Any]:
    """
    Return the schema, of JSON Schema 2020-12.

    It describes the model's own names. Reading takes more: the other names of `dedup2d.geometry.aliases`,
    points as objects, and fields that no one knows.
    """
    types = list(dict.fromkeys([*ENTITY_TYPES.values(), Attribute, Layer]))
    _, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    entity = {
        "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in types if kind not in {Attribute, Layer}]
    }
    entities = {"type": "array", "items": {"$ref": "#/$defs/Entity"}, "default": []}
    point = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3}
    block = {
        "title": "Block",
        "description": _summary(Block),
        "type": "object",
        "properties": {"base_point": {**point, "default": [0, 0]}, "entities": entities},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": _TITLE,
        "description": _summary(Geometry),
        "type": "object",
        "properties": {
            "layers": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Layer"}, "default": {}},
            "entities": entities,
            "blocks": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Block"}, "default": {}},
            "dimensions": _section(Dimension),
            "hatches": _section(Hatch),
            "text_content": {
                "type": "array",
                "items": {"anyOf": [{"type": "string"}, {"$ref": f"#/$defs/{Text.__name__}"}]},
                "default": [],
            },
            "meta": {
                "type": "object",
                "properties": {
                    "drawing_number": {"type": ["string", "integer", "null"]},
                    "units": {"type": ["string", "integer", "null"]},
                },
                "default": {},
            },
            "statistics": {"type": "object", "default": {}},
        },
        "$defs": {**components, "Entity": entity, "Block": block},
    }


def _section(kind: type[attrs.AttrsInstance]) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/$defs/{kind.__name__}"}, "default": []}


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
