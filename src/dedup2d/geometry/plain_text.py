"""What a text of CAD says, without what it writes for formats."""

from __future__ import annotations

import re
from typing import Any

from dedup2d.readers.escapes import unescaped

__all__ = ["plain"]

_FORMATS = re.compile(r"\\[\\{}PX~N]|\\S([^;]*);|\\[ACFHQTWacfhpqtw][^;\\{}]*;|\\[LOKlok]")


def plain(text: str) -> str:
    """Return *text* without what MTEXT and TEXT write for formats, and with single spaces."""
    if "\\" in text or "{" in text:
        text = _FORMATS.sub(_plain_code, unescaped(text)).replace("{", "").replace("}", "")
    for code, sign in (("%%d", "°"), ("%%c", "⌀"), ("%%p", "±"), ("%%u", ""), ("%%o", "")):
        if "%%" in text:
            text = text.replace(code, sign).replace(code.upper(), sign)
    return " ".join(text.split())


def _plain_code(found: Any) -> str:
    code = found.group()
    if code in {"\\P", "\\~", "\\X", "\\N"}:
        return " "
    if code in {"\\\\", "\\{", "\\}"}:
        return str(code[1])
    return str(found.group(1) or "").replace("^", "/").replace("#", "/")
