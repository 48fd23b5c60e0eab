"""
What a file is, by its first bytes; standard library only.
"""

from __future__ import annotations

import re
import zlib

from dedup2d.errors import EmptyFileError, UnsupportedFormatError

__all__ = ["HEAD_BYTES", "sniff"]

HEAD_BYTES = 64 * 1024
"""How much of a file `sniff` wants to see."""

GZIP = b"\x1f\x8b"
BINARY_DXF = b"AutoCAD Binary DXF\r\n\x1a\x00"

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (BINARY_DXF[:18], "dxf"),
)
_DWG = re.compile(rb"(AC10\d\d|AC1\.[2-5]0|AC2\.[12]\d|MC0\.0)")
_DXF = re.compile(rb"\s*(999[ \t]*\r?\n[^\n]*\n\s*)*0[ \t]*(\r\n|\n|\r)[ \t]*SECTION[ \t]*[\r\n]")
_SVG = re.compile(rb"<([A-Za-z_][\w.-]*:)?svg[\s>/]")
_MARKUP = re.compile(rb"\s*<([?!]|([A-Za-z_][\w.-]*:)?svg[\s>/])")
_HTML = re.compile(rb"<(!doctype\s+)?html[\s>]", re.IGNORECASE)
_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))

_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"RIFF", "a WebP or other RIFF file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\xd0\xcf\x11\xe0", "an OLE file (SolidWorks, Office)"),
    (b"ISO-10303-21", "a STEP file"),
    (b"solid ", "an STL file"),
    (b"%!PS", "PostScript"),
)


def sniff(head: bytes, name: str) -> str:
    """
    Tell the format of a file from its first bytes, 64 KiB at most are looked at.

    Returns:
        `png`, `jpeg`, `tiff`, `pdf`, `dxf` (text, binary or gzipped), `dwg` or `svg`.

    Raises:
        EmptyFileError: there are no bytes.
        UnsupportedFormatError: they are the start of none of these formats.
    """
    if not head:
        raise EmptyFileError(name)
    head = head[:HEAD_BYTES]
    if head.startswith(GZIP):
        return _gzipped(head, name)
    found = _plain(head)
    if found is None:
        raise UnsupportedFormatError(name, _what_else(head))
    return found


def _plain(head: bytes) -> str | None:
    for start, found in _STARTS:
        if head.startswith(start):
            return found
    if _DWG.match(head):
        return "dwg"
    if b"%PDF-" in head[:1024]:
        return "pdf"
    return _textual(_without_bom(head))


def _textual(text: bytes) -> str | None:
    if _DXF.match(text):
        return "dxf"
    if _MARKUP.match(text) and _SVG.search(text) and not _HTML.search(text):
        return "svg"
    return None


def _without_bom(head: bytes) -> bytes:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return head.decode(encoding, errors="replace").encode()
    return head


def _gzipped(head: bytes, name: str) -> str:
    try:
        inner = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        raise UnsupportedFormatError(name, "it is a damaged gzip") from None
    if _plain(inner) != "dxf":
        raise UnsupportedFormatError(name, "it is a gzip of something other than a DXF")
    return "dxf"


def _what_else(head: bytes) -> str:
    for start, what in _OTHERS:
        if head.startswith(start):
            return f"it is {what}"
    if not head.strip(b"\x00"):
        return "it is all zero bytes"
    if b"\x00" not in head and sum(byte < 9 for byte in head[:1024]) == 0:
        return "it is plain text"
    return "its content is none of them"
