"""Characters that DXF and DWG escape in texts and names, as their encodings lack them."""

from __future__ import annotations

import re

__all__ = ["unescaped", "without_controls"]

_RUN = re.compile(r"(?:\\U\+[0-9A-Fa-f]{4})+")
_CONTROLS = re.compile("[\0-\b\n-\x1f\x7f-\x9f]")


def unescaped(text: str) -> str:
    r"""Return *text* with the characters that are written as `\U+` and four hexadecimal digits (UTF-16)."""
    return _RUN.sub(_characters, text) if "\\U+" in text else text


def without_controls(text: str) -> str:
    """Return *text* with a mark for each control character but tabs: a terminal or a log would obey them."""
    return _CONTROLS.sub("\ufffd", text)


def _characters(found: re.Match[str]) -> str:
    return without_controls(bytes.fromhex(found.group().replace("\\U+", "")).decode("utf-16-be", "replace"))
