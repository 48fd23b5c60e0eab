"""
From a DXF file (text, binary, gzipped) to an ezdxf document, counting while loading.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from ezdxf import recover
from ezdxf.document import Drawing
from ezdxf.filemanagement import dxf_stream_info
from ezdxf.lldxf.encoding import decode_mif_to_unicode
from ezdxf.lldxf.tagger import ascii_tags_loader, binary_tags_loader
from ezdxf.lldxf.types import DXFTag

from dedup2d.errors import Dedup2DError, ImageTooLargeError, UnreadableDrawingError
from dedup2d.readers.escapes import unescaped, without_controls
from dedup2d.readers.model import ReadLimits, Source
from dedup2d.readers.sniff import BINARY_DXF, GZIP
from dedup2d.readers.tape import too_many_entities

__all__ = ["load"]

_CHUNK = 1024 * 1024
_PARTS_PER_ENTITY = 20
_PARTS = {"VERTEX", "SEQEND", "ATTRIB"}
_ENTITY = re.compile(rb"[\r\n][ \t]*0[ \t]*\r?[\r\n][ \t]*[A-Z]")
_PART = re.compile(rb"[\r\n][ \t]*0[ \t]*\r?[\r\n][ \t]*(?:VERTEX|SEQEND|ATTRIB)[ \t]*[\r\n]")
_ESCAPED_CONTROL = re.compile(rb"\\U\+00(?:0[0-8A-Fa-f]|1[0-9A-Fa-f]|7[Ff]|[89][0-9A-Fa-f])")
_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


def load(source: Source, data: bytes | None = None) -> tuple[Drawing, list[str]]:
    """
    Load the document; *data* stands for the file's content where it was converted.

    Returns:
        the document, and warnings.

    Raises:
        ImageTooLargeError: it expands to more than `max_expanded_bytes`.
        UnreadableDrawingError: too many entities, or damaged beyond repair.
    """
    with _opened(source, data) as stream:
        try:
            return _load(stream, source), []
        except (Dedup2DError, MemoryError):
            raise
        except Exception as error:  # any defect: try again with the patient reader
            stream.seek(0)
            if stream.read(len(BINARY_DXF)) == BINARY_DXF:
                raise UnreadableDrawingError(
                    source.name, "the binary DXF is damaged or incomplete"
                ) from error
            stream.seek(0)
            return _recovered(stream), ["the DXF is damaged: what could be read of it is drawn"]


@contextlib.contextmanager
def _opened(source: Source, data: bytes | None) -> Iterator[BinaryIO]:
    if data is not None:
        yield io.BytesIO(data)
        return
    with source.path.open("rb") as file:
        if file.read(2) != GZIP:
            file.seek(0)
            yield file
            return
        file.seek(0)
        _check_expansion(file, source)
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as expanded, io.BufferedReader(expanded, _CHUNK) as buffered:
            yield buffered


def _check_expansion(file: BinaryIO, source: Source) -> None:
    """Expand once without keeping anything, so that a bomb is known before it is used."""
    limit = source.limits.max_expanded_bytes
    total = 0
    try:
        with gzip.GzipFile(fileobj=file) as expanded:
            while chunk := expanded.read(_CHUNK):
                total += len(chunk)
                if total > limit:
                    raise ImageTooLargeError(
                        source.name,
                        f"it expands to more than the limit of {limit:,} expanded bytes:"
                        " send a smaller drawing",
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UnreadableDrawingError(source.name, "the gzip is damaged or incomplete") from None


def _load(stream: BinaryIO, source: Source) -> Drawing:
    head = stream.read(len(BINARY_DXF))
    stream.seek(0)
    if head == BINARY_DXF:
        counted = _counted(binary_tags_loader(stream.read()), source.name, source.limits)
        return Drawing.load(_with_all_letters(counted))
    _check_entities(stream, source)
    text = _Unclosed(stream, encoding=_encoding(stream, head), errors="surrogateescape")
    return Drawing.load(_with_all_letters(ascii_tags_loader(text)))


def _check_entities(stream: BinaryIO, source: Source) -> None:
    """
    Count a text DXF's entities (those of blocks, and objects, too) in one quick pass before loading.

    One that lies across the pieces read is missed: at most one in a MiB.
    """
    limit = source.limits.max_entities
    entities = parts = 0
    while piece := stream.read(_CHUNK):
        entities += len(_ENTITY.findall(piece))
        parts += len(_PART.findall(piece))
    stream.seek(0)
    if entities - parts > limit or parts > _PARTS_PER_ENTITY * limit:
        raise too_many_entities(source.name, limit)


class _Unclosed(io.TextIOWrapper):
    """Leaves the stream open: the patient reader may need it again."""

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            self.detach()

    def __del__(self) -> None:
        self.close()


def _encoding(stream: BinaryIO, head: bytes) -> str:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    probe = _Unclosed(stream, encoding="utf-8", errors="ignore")
    encoding = dxf_stream_info(probe).encoding
    probe.close()
    stream.seek(0)
    return encoding


def _counted(tags: Iterable[Any], name: str, limits: ReadLimits) -> Iterator[Any]:
    """Pass tags on while there are not too many entities (blocks' included) among them."""
    entities = parts = 0
    for tag in tags:
        if tag.code == 0:
            if tag.value in _PARTS:
                parts += 1
            else:
                entities += 1
            if entities > limits.max_entities or parts > _PARTS_PER_ENTITY * limits.max_entities:
                raise too_many_entities(name, limits.max_entities)
        yield tag


def _with_all_letters(tags: Iterable[Any]) -> Iterator[Any]:
    """Read what is escaped in texts and names, as CAD programs do; of ezdxf only the patient reader does."""
    for tag in tags:
        value = tag.value
        if isinstance(value, str) and ("\\U+" in value or "\\M+" in value):
            yield DXFTag(tag.code, without_controls(decode_mif_to_unicode(unescaped(value))))
        else:
            yield tag


def _recovered(stream: BinaryIO) -> Drawing:
    """What ezdxf's patient reader can make of it; its entities were counted before."""

    def loader(binary: BinaryIO) -> Iterator[Any]:
        yield from _ended(_without_escaped_controls(recover.bytes_loader(binary)))

    tool = recover.Recover.run(stream, loader=loader)
    document, _ = recover._load_and_audit_document(tool)  # noqa: SLF001 - `recover.read` takes no loader
    return document


def _without_escaped_controls(tags: Iterable[Any]) -> Iterator[Any]:
    """Mark what ezdxf would read as control characters, as `without_controls` does."""
    for tag in tags:
        value = tag.value
        if isinstance(value, bytes) and b"\\U+00" in value:
            yield DXFTag(tag.code, _ESCAPED_CONTROL.sub(rb"\\U+FFFD", value))
        else:
            yield tag


def _ended(tags: Iterable[Any]) -> Iterator[Any]:
    """Close what a file that was cut off leaves open; ezdxf would drop the whole section."""
    yield from tags
    yield DXFTag(0, b"ENDSEC")
    yield DXFTag(0, b"EOF")
