"""Writes `geometry.schema.json`, the JSON Schema of the v2 geometry JSON: python docs/geometry_schema.py."""

from __future__ import annotations

import json
from pathlib import Path

from dedup2d.geometry.schema import json_schema

TARGET = Path(__file__).with_name("geometry.schema.json")


def text() -> str:
    """Return what the file holds."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
