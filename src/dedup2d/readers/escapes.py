"""Characters that DXF and DWG escape in texts and names, as their encodings lack them."""

from __future__ import annotations

import re

__all__ = ["unescaped"]

_RUN = re.compile(r"(?:\\U\+[0-9A-Fa-f]{4})+")


def unescaped(text: str) -> str:
    r"""Return *text* with the characters that are written as `\U+` and four hexadecimal digits (UTF-16)."""
    return _RUN.sub(_characters, text) if "\\U+" in text else text


def _characters(found: re.Match[str]) -> str:
    return bytes.fromhex(found.group().replace("\\U+", "")).decode("utf-16-be", "replace")
