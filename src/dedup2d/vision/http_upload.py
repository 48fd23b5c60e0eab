"""
The body of a request with drawings: multipart/form-data (RFC 7578), streamed, of known length.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import NoReturn

from dedup2d.errors import MissingExtraError, UnreadableDrawingError
from dedup2d.types import DrawingFile

try:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.payload import Payload
except ImportError:
    raise MissingExtraError("http", "calling a vision server (aiohttp)") from None

__all__ = ["MultipartBody"]

_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "dxf": "image/vnd.dxf",
    "dwg": "image/vnd.dwg",
}


class MultipartBody(Payload):
    """
    The body of one request; a retry needs a new one.

    Names are written as browsers write them: UTF-8, with quotes and line ends percent-encoded.

    Args:
        fields: texts by name.
        files: drawings by name, opened one after the other while they are sent.

    Attributes:
        failure: what went wrong with a drawing, if that is why the body broke off.
    """

    def __init__(self, fields: Mapping[str, str], files: Mapping[str, DrawingFile]) -> None:
        boundary = secrets.token_hex(16)
        super().__init__(None, content_type=f"multipart/form-data; boundary={boundary}")
        self.failure: Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._sent = False
        self._segments: list[bytes | DrawingFile] = []
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        for name, file in files.items():
            head += (
                f'--{boundary}\r\nContent-Disposition: form-data; name="{name}";'
                f' filename="{_escaped(file.name)}"\r\nContent-Type: {_media_type(file.name)}\r\n\r\n'
            )
            self._segments += [head.encode(errors="replace"), file]
            head = "\r\n"
        self._segments.append(f"{head}--{boundary}--\r\n".encode(errors="replace"))
        self._size = sum(len(one) if isinstance(one, bytes) else one.size for one in self._segments)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:
        """Refuse: the body is never held as a whole."""
        raise TypeError(f"a streamed body has no text ({encoding}, {errors})")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the body."""
        self._transport = getattr(writer, "transport", None)
        for segment in self._segments:
            if isinstance(segment, bytes):
                await writer.write(segment)
                continue
            async with aclosing(self._chunks(segment)) as chunks:
                async for chunk in chunks:
                    await writer.write(chunk)
        self._sent = True

    def give_up(self) -> None:
        """Drop the connection if the body is not through: what is buffered of it need not arrive any more."""
        if self._transport is not None and not self._sent:
            # One that is closing still sends what it has; asyncio fails to abort one that is closed (3.12).
            with suppress(AttributeError):
                self._transport.abort()

    async def _chunks(self, file: DrawingFile) -> AsyncGenerator[bytes, None]:
        """Give the bytes of *file*, and note in `failure` what goes wrong with it."""
        left = file.size
        stream = file.open()
        try:
            async for chunk in stream:
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
            _check_whole(file, left)
        except Exception as error:
            self.failure = error
            raise
        finally:
            if close := getattr(stream, "aclose", None):
                await close()


def _check_whole(file: DrawingFile, left: int) -> None:
    if left:
        raise UnreadableDrawingError(
            file.name, f"its stored file does not have the {file.size:,} bytes that were taken in"
        )


def _escaped(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def _media_type(name: str) -> str:
    return _MEDIA_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
