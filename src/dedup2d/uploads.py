"""What comes in: the bytes of a drawing, checked while they pass, and its name."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import anyio

from dedup2d.errors import (
    Dedup2DError,
    EmptyFileError,
    FileTooLargeError,
    InvalidParameterError,
    UnreadableDrawingError,
)
from dedup2d.readers.sniff import HEAD_BYTES, sniff
from dedup2d.types import DrawingFile

__all__ = ["Data", "as_chunks", "checked", "clean_file_name", "file_in_place", "on_disk", "spooled"]

Data = AsyncIterable[bytes] | bytes | Path
"""A drawing's bytes: as a stream, as a whole, or where they lie on disk."""

_FILE_NAME_LENGTH = 255
_CHUNK_BYTES = 1024 * 1024
_SPOOL_BYTES = 512 * 1024


def clean_file_name(name: str) -> str:
    """
    Return the last part of *name* without control characters, at most 255 characters.

    Clients send paths of their own machine, and worse; a name is only ever shown.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(c if c.isprintable() else "_" for c in last).strip()
    return printable[-_FILE_NAME_LENGTH:] if printable not in {"", ".", ".."} else "drawing"


async def checked(
    data: Data, name: str, *, max_bytes: int, told: Callable[[str], object] = str
) -> AsyncGenerator[bytes, None]:
    """
    Pass the bytes on while they look like a drawing and are at most *max_bytes*.

    *told* is called with the format (as `sniff` names it) before the first bytes are passed on.

    Raises:
        EmptyFileError, FileTooLargeError, UnsupportedFormatError: they do not, or are too many.
        UnreadableDrawingError: the path cannot be opened.
    """
    head, size, passed = b"", 0, False
    async with aclosing(_chunks(data, name)) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise FileTooLargeError(name, max_bytes)
            if passed:
                yield chunk
                continue
            head += chunk
            if len(head) >= HEAD_BYTES:
                told(sniff(head, name))
                passed = True
                yield head
    if not passed:
        if not head:
            raise EmptyFileError(name)
        told(sniff(head, name))
        yield head


async def file_in_place(path: Path, name: str, *, max_bytes: int) -> DrawingFile:
    """
    Return the local file at *path* as it is handed to a vision client.

    Raises: as `checked`.
    """
    digest, size = hashlib.sha256(), 0
    async with aclosing(checked(path, name, max_bytes=max_bytes)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
    return DrawingFile(
        name=name, sha256=digest.hexdigest(), size=size, open=lambda: _chunks(path, name), path=path
    )


@asynccontextmanager
async def spooled(data: Data, name: str, *, max_bytes: int) -> AsyncIterator[DrawingFile]:
    """
    Give what comes in as it is handed to a vision client, for as long as the block lasts.

    Up to 512 KiB are held in memory, more in a temporary file.

    Raises: as `checked`.
    """
    if isinstance(data, Path):
        yield await file_in_place(data, name, max_bytes=max_bytes)
        return
    digest, size, held = hashlib.sha256(), 0, list[bytes]()
    async with AsyncExitStack() as stack:
        chunks = await stack.enter_async_context(aclosing(checked(data, name, max_bytes=max_bytes)))
        file: anyio.AsyncFile[bytes] | None = None
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            held.append(chunk)
            if file is None and size > _SPOOL_BYTES:
                file = await stack.enter_async_context(anyio.NamedTemporaryFile(prefix="dedup2d-"))
            if file is not None:
                await file.write(b"".join(held))
                held.clear()
        path = None
        if file is not None:
            await file.flush()
            path = Path(str(file.name))
        yield DrawingFile(
            name=name,
            sha256=digest.hexdigest(),
            size=size,
            open=lambda: _chunks(path or b"".join(held), name),
            path=path,
        )


@asynccontextmanager
async def on_disk(file: DrawingFile) -> AsyncIterator[Path]:
    """Give the file where it lies on this disk, or a copy that goes again."""
    if file.path is not None:
        yield file.path
        return
    async with anyio.TemporaryDirectory(prefix="dedup2d-") as directory:
        path = Path(directory, "drawing")
        async with await anyio.open_file(path, "wb") as copy:
            async for chunk in file.open():
                await copy.write(chunk)
        yield path


async def as_chunks(data: bytes) -> AsyncGenerator[bytes, None]:
    """Give *data* in chunks of at most 1 MiB."""
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


async def _chunks(data: Data, name: str) -> AsyncGenerator[bytes, None]:
    if isinstance(data, bytes):
        if data:
            yield data
    elif isinstance(data, Path):
        try:
            async with await anyio.open_file(data, "rb") as file:
                while chunk := await file.read(_CHUNK_BYTES):
                    yield chunk
        except (OSError, ValueError) as error:
            raise _unopened(error, name) from error
    else:
        async for chunk in data:
            yield chunk


def _unopened(error: OSError | ValueError, name: str) -> Dedup2DError:
    if isinstance(error, OSError):
        return UnreadableDrawingError(name, error.strerror or "it cannot be opened")
    return InvalidParameterError("path", name, "a path without NUL")
