"""
Multipart bodies (RFC 7578), parsed while they arrive.

The drawing is passed on in the pieces it comes in: memory does not grow with it. The pieces end only once
the whole body was seen to be right, else they raise: who stores them stores nothing of a body that was cut
off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

import anyio
from attrs import evolve, field, frozen
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.types import Receive

from dedup2d.errors import FileTooLargeError, InvalidGeometryError, InvalidParameterError, shown
from dedup2d.protocols import MAX_GEOMETRY_BYTES
from dedup2d_http.arriving import Arriving
from dedup2d_http.pace import Pace
from dedup2d_http.problems import HttpError

__all__ = ["Spool", "Upload", "UploadLimits", "geometries", "upload"]

_FILE = "file"
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})


@frozen(kw_only=True)
class UploadLimits:
    """
    What a body may cost.

    Args:
        max_file_bytes: most bytes of the drawing.
        max_other_bytes: most bytes of all else in the body: boundaries, headers, fields.
        max_parts: most parts.
        max_field_bytes: most bytes of one field.
        max_header_bytes: most bytes of one header of a part; a file's name stands in one.
        max_geometry_bytes: most bytes of one geometry.
        pace: how slowly it may come.
    """

    max_file_bytes: int
    max_other_bytes: int = 256 * 1024
    max_parts: int = 16
    max_field_bytes: int = 64 * 1024
    max_header_bytes: int = 16 * 1024
    max_geometry_bytes: int = MAX_GEOMETRY_BYTES
    pace: Pace = field(factory=Pace)

    @property
    def max_body_bytes(self) -> int:
        return self.max_file_bytes + self.max_other_bytes


class Upload(AsyncIterator[bytes]):
    """
    The drawing of a body, as its pieces; and the body's fields.

    `fields` holds those that came before the drawing, and all of them once the pieces are through; so with
    geometries, which lie in temporary files until it is left as a context manager. `done` is set when no more
    of the body will come.

    Iterating raises:
        HttpError: the body is malformed, or nothing came for too long.
        FileTooLargeError: the body is larger than allowed.
        ClientGoneError: the connection broke.
    """

    def __init__(self, receive: Receive, form: _Form, limits: UploadLimits) -> None:
        self.done = anyio.Event()
        self._form = form
        self._limits = limits
        self._arriving = Arriving(receive, limits.pace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._form.discard()

    @property
    def file_name(self) -> str:
        return self.name_of(_FILE)

    def has_geometry(self, part: str) -> bool:
        """Say whether the geometry in *part* has come."""
        return part in self._form.geometries

    def geometry(self, part: str) -> bytes | None:
        """Return the geometry in *part*, None if none has come."""
        return self._form.geometry(part)

    async def to_end(self) -> None:
        """Read all of a body that has no drawing."""
        while not self.done.is_set():
            await self._feed()

    def name_of(self, part: str) -> str:
        """Return the file name that came with the drawing in *part*, once that has begun."""
        return self._form.file_names.get(part, "")

    @property
    def fields(self) -> dict[str, str]:
        return self._form.fields

    async def find_file(self, instead: Collection[str] = ()) -> None:
        """Read up to where the drawing begins, or to the end if a field of *instead* stands for it."""
        while not self._form.file_names:
            if self.done.is_set():
                if not self.fields.keys().isdisjoint(instead):
                    return
                raise HttpError(
                    "INVALID_MULTIPART", "the body has no part named file: send the drawing as that"
                )
            await self._feed()

    async def __anext__(self) -> bytes:
        while not self._form.pieces:
            if self.done.is_set():
                raise StopAsyncIteration
            await self._feed()
        return self._form.pieces.popleft()[1]

    async def of(self, part: str) -> AsyncIterator[bytes]:
        """
        Give the pieces of the drawing in *part* alone, where a body has several; in their order only.

        Unlike those of the whole, they may end before the body was seen to be right.
        """
        while not (self._form.pieces and self._form.pieces[0][0] != part):
            if self._form.pieces:
                yield self._form.pieces.popleft()[1]
            elif self.done.is_set():
                break
            else:
                await self._feed()
        if part not in self._form.file_names:
            raise HttpError("INVALID_MULTIPART", f"the body has no part named {part}: send both drawings")

    async def _feed(self) -> None:
        body, more = await self._arriving.next()
        self._form.write(body)
        if self._arriving.size - self._form.geometry_bytes > self._limits.max_body_bytes:
            raise FileTooLargeError("the body", self._limits.max_file_bytes)
        if not more:
            self._form.close()
            self.done.set()


async def upload(
    request: Request,
    limits: UploadLimits,
    *,
    fields: Collection[str] = (),
    more_files: Sequence[str] = (),
    instead: Collection[str] = (),
    geometry: Sequence[str] = (),
) -> Upload:
    """
    Begin to read the body of *request*, up to where the drawing begins.

    Only parts named `file` and those named in *fields* may be in it, and drawings named in *more_files*, in
    that order. A field named in *instead* may stand in place of the drawing. Where parts named in *geometry*
    may be in it, what is returned is to be left as a context manager.

    Raises:
        HttpError: it is not multipart/form-data, or malformed, or has no drawing.
        FileTooLargeError: it announces more bytes than are allowed.
        InvalidParameterError: it has another part.
    """
    form = _Form(
        _boundary(request),
        limits,
        files=(_FILE, *more_files),
        allowed=frozenset(fields),
        may_be_geometry=frozenset(geometry),
    )
    begun = _begun(request, form, limits)
    try:
        await begun.find_file(instead)
    except BaseException:
        form.discard()
        raise
    return begun


@asynccontextmanager
async def geometries(request: Request, limits: UploadLimits, *parts: str) -> AsyncIterator[Upload]:
    """
    Read a body of geometries alone, to its end.

    Raises: as `upload`.
    """
    form = _Form(_boundary(request), limits, files=(), allowed=frozenset(), may_be_geometry=frozenset(parts))
    with _begun(request, form, evolve(limits, max_file_bytes=0)) as begun:
        await begun.to_end()
        yield begun


def _begun(request: Request, form: _Form, limits: UploadLimits) -> Upload:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > form.max_body_bytes:
        raise FileTooLargeError("the body", limits.max_file_bytes)
    return Upload(request.receive, form, limits)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        given = shown(kind.decode("latin-1")) or "nothing"
        raise HttpError(
            "UNSUPPORTED_MEDIA_TYPE",
            f"send the drawing as the part file of multipart/form-data, not as {given}",
            {"Accept-Post": "multipart/form-data"},
        )
    if encoding := request.headers.get("content-encoding", ""):
        raise HttpError(
            "UNSUPPORTED_MEDIA_TYPE",
            f"Content-Encoding {shown(encoding)} is not taken: send the body as it is",
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise HttpError("INVALID_MULTIPART", "the Content-Type needs a boundary of 1 to 70 characters")
    return boundary


class _Form:
    """What the parser has found so far."""

    def __init__(
        self,
        boundary: bytes,
        limits: UploadLimits,
        *,
        files: tuple[str, ...],
        allowed: frozenset[str],
        may_be_geometry: frozenset[str] = frozenset(),
    ) -> None:
        self.geometries: dict[str, SpooledTemporaryFile[bytes]] = {}
        self.max_body_bytes = limits.max_body_bytes + len(may_be_geometry) * limits.max_geometry_bytes
        self._may_be_geometry = may_be_geometry
        self.pieces: deque[tuple[str, bytes]] = deque()
        self.fields: dict[str, str] = {}
        self.file_names: dict[str, str] = {}
        self._limits = limits
        self._files = files
        self._allowed = allowed
        self._parts = 0
        self._ended = False
        self._headers: dict[str, str] = {}
        self._header_name = b""
        self._header_value = b""
        self._name = ""
        self._field = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value_piece,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
            max_header_size=limits.max_header_bytes,
        )

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise HttpError("INVALID_MULTIPART", f"the body is malformed: {shown(str(error))}") from None

    def close(self) -> None:
        if not self._ended:
            raise HttpError(
                "INVALID_MULTIPART", "the body ends before its closing boundary: send it again, whole"
            )

    def geometry(self, part: str) -> bytes | None:
        if part not in self.geometries:
            return None
        self.geometries[part].seek(0)
        return self.geometries[part].read()

    @property
    def geometry_bytes(self) -> int:
        return sum(file.tell() for file in self.geometries.values())

    def discard(self) -> None:
        for file in self.geometries.values():
            file.close()

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > self._limits.max_parts:
            raise HttpError("INVALID_MULTIPART", f"the body has more than {self._limits.max_parts} parts")
        self._headers = {}
        self._field.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_piece(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value.decode("latin-1")
        self._header_name = self._header_value = b""

    def _headers_end(self) -> None:
        kind, options = parse_options_header(self._headers.get("content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise HttpError("INVALID_MULTIPART", "a part has no Content-Disposition: form-data with a name")
        encoding = self._headers.get("content-transfer-encoding", "").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise HttpError(
                "INVALID_MULTIPART", f"Content-Transfer-Encoding {shown(encoding)} is not taken: send binary"
            )
        self._name = options[b"name"].decode(errors="replace")
        if self._name in self._files:
            self._file_begins(options.get(b"filename", b""))
        elif self._name in self._may_be_geometry and self._name not in self.geometries:
            # Memory does not grow with what comes in many requests at once.
            self.geometries[self._name] = SpooledTemporaryFile(max_size=64 * 1024)  # noqa: SIM115 - see discard
        elif self._name not in self._allowed | self._may_be_geometry:
            allowed = ", ".join([*self._files, *sorted(self._allowed | self._may_be_geometry)])
            raise InvalidParameterError(
                f"part {shown(self._name)}", "", f"parts named {allowed}, parameters in the query"
            )
        elif self._name in self.fields or self._name in self.geometries:
            raise HttpError("INVALID_MULTIPART", f"the body has more than one part named {self._name}")

    def _file_begins(self, file_name: bytes) -> None:
        if self._name in self.file_names:
            raise HttpError(
                "INVALID_MULTIPART", f"the body has more than one part named {self._name}: send one drawing"
            )
        if self._name != self._files[len(self.file_names)]:
            order = ", ".join(self._files)
            raise HttpError("INVALID_MULTIPART", f"the drawings must come in the order {order}")
        self.file_names[self._name] = file_name.decode(errors="replace")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name in self._files:
            self.pieces.append((self._name, data[start:end]))
            return
        if self._name in self.geometries:
            self._geometry_piece(data[start:end])
            return
        if len(self._field) + end - start > self._limits.max_field_bytes:
            raise InvalidParameterError(self._name, "...", f"at most {self._limits.max_field_bytes:,} bytes")
        self._field += data[start:end]

    def _geometry_piece(self, data: bytes) -> None:
        file, most = self.geometries[self._name], self._limits.max_geometry_bytes
        file.write(data)
        if file.tell() > most:
            raise InvalidGeometryError(
                self._name, f"is larger than the limit of {most:,} bytes", "send less detail"
            )

    def _part_ends(self) -> None:
        if self._name not in self._files and self._name not in self.geometries:
            try:
                self.fields[self._name] = self._field.decode()
            except UnicodeDecodeError:
                raise InvalidParameterError(self._name, bytes(self._field[:40]), "UTF-8") from None

    def _end(self) -> None:
        self._ended = True


class Spool:
    """
    Holds the beginning of a stream on disk, to be read again before the rest.

    The file has no name: a crash leaves nothing behind.
    """

    def __init__(self, pieces: AsyncIterator[bytes], file: anyio.SpooledTemporaryFile[bytes]) -> None:
        self._pieces = pieces
        self._file = file

    @classmethod
    @asynccontextmanager
    async def of(cls, pieces: AsyncIterator[bytes]) -> AsyncIterator[Self]:
        async with anyio.SpooledTemporaryFile(max_size=256 * 1024, mode="w+b") as file:
            yield cls(pieces, file)

    async def holds_all(self, most: int | None = None) -> bool:
        """Take in the stream until it ends or more than *most* bytes came; say whether it ended."""
        size = 0
        async for piece in self._pieces:
            await self._file.write(piece)
            size += len(piece)
            if most is not None and size > most:
                return False
        return True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._file.seek(0)
        while piece := await self._file.read(256 * 1024):
            yield piece
        async for piece in self._pieces:
            yield piece
