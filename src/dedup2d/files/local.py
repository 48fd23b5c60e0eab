"""A file store in a directory of this machine."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import FileIO
from itertools import islice
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Self

from anyio import CancelScope, to_thread

from dedup2d.errors import FileNotStoredError, StoreUnavailableError
from dedup2d.files import tree
from dedup2d.files.keys import check_key
from dedup2d.types import HalfUpload, StoredFile

__all__ = ["LocalFileStore"]

_CHUNK = 1024 * 1024
_INCOMING = ".incoming"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Incoming:
    """A file that is being written, not yet under its key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file: FileIO | None = None
        self._hash = sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def take(self, chunk: bytes) -> bool:
        """Hold *chunk* in memory; say whether it is time to write."""
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        return self._waiting_bytes >= _CHUNK

    @property
    def gone(self) -> bool:
        """Whether nothing of it is on the disk under its own name, nor open."""
        return self.file is None

    def write(self, file: FileIO) -> None:
        for chunk in self._waiting:
            self._hash.update(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]
        self._waiting, self._waiting_bytes = [], 0

    def seal(self, file: FileIO, now: float) -> str:
        """Bring all bytes to the disk, give the file the time *now*, return its sha256."""
        self.write(file)
        nanoseconds = int(now) * 1_000_000_000 + round(now % 1 * 1_000_000_000)
        os.utime(file.fileno(), ns=(nanoseconds, nanoseconds))
        os.fsync(file.fileno())
        return self._hash.hexdigest()


class LocalFileStore:
    """
    A `FileStore`, `LocalFiles` and `HalfUploads` in a directory, for any number of processes of one machine.

    A file is written under `.incoming`, synced, and renamed to its place; its directories carry
    a `+` so that the keys `a` and `a/b` can both be there. No symbolic link below *directory* is
    followed. Needs POSIX (`openat` and friends) and a file system that tells upper from lower case.

    Args:
        directory: readable for this user alone.
        stale_seconds: half-written files untouched for so long are removed.
        clear_away: make the directory and remove them at the start; not if nothing may be changed.
        clock: gives the Unix time.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        stale_seconds: float = 3600.0,
        clear_away: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = Path(directory)
        self._stale_seconds = stale_seconds
        self._clear_away = clear_away
        self._clock = clock
        self._root = -1
        self._real_root = ""

    async def __aenter__(self) -> Self:
        await to_thread.run_sync(self._start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        root, self._root = self._root, -1
        os.close(root)

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        check_key(key)
        incoming = _Incoming(f"{os.getpid()}-{token_hex(8)}")
        try:
            async for chunk in chunks:
                if incoming.take(chunk):
                    await to_thread.run_sync(self._write, incoming)
            # Most files are small: for them this is the only step in a thread.
            return await to_thread.run_sync(self._keep, key, incoming)
        finally:
            if not incoming.gone:
                # Also a cancelled upload must leave nothing behind.
                with CancelScope(shield=True):
                    await to_thread.run_sync(self._discard, incoming)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        check_key(key)
        # Most files are small: for them this is the only step in a thread.
        opened, chunk = await to_thread.run_sync(self._begin_to_read, key)
        with opened:
            left = os.fstat(opened.fileno()).st_size
            while chunk:
                yield chunk
                left -= len(chunk)
                chunk = await to_thread.run_sync(opened.read, _CHUNK) if left > 0 else b""

    async def delete(self, key: str) -> bool:
        check_key(key)
        return await to_thread.run_sync(self._delete, key)

    async def list(
        self, *, prefix: str = "", older_than: float | None = None, limit: int = 1000, after: str = ""
    ) -> Sequence[StoredFile]:
        wanted = tree.Wanted(prefix=prefix, older_than=older_than, after=after, batch=max(1, limit))
        return await to_thread.run_sync(lambda: list(islice(tree.walk(self._root, wanted), max(0, limit))))

    @property
    def longest_upload_seconds(self) -> float:
        return self._stale_seconds

    async def half_uploads(self, *, older_than: float) -> AsyncIterator[HalfUpload]:
        """Give the files that are being written and were last touched before *older_than*."""
        with _mapped():
            found = await to_thread.run_sync(self._half, older_than)
        for upload in found:
            yield upload

    async def abandon(self, upload: HalfUpload) -> bool:
        return await to_thread.run_sync(self._abandon, upload)

    def local_path(self, key: str) -> str:
        """
        Return where the file of *key* lies, if it is stored.

        Raises:
            InvalidParameterError: *key* is not a key.
            FileNotStoredError: a symbolic link stands in the way.
        """
        check_key(key)
        path = str(Path(self._real_root, *tree.names(key)))
        if os.path.realpath(path) != path:
            raise FileNotStoredError(key)
        return path

    def _start(self) -> None:
        with _mapped():
            if self._clear_away:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._real_root = os.path.realpath(self._directory)
            self._root = os.open(self._real_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if self._clear_away:
                self._drop_stale()

    def _drop_stale(self) -> None:
        with tree.directory(self._root, [_INCOMING], create=True):
            for upload in self._half(self._clock() - self._stale_seconds):
                self._drop(upload)

    def _half(self, older_than: float) -> Sequence[HalfUpload]:
        with (
            suppress(FileNotFoundError),
            tree.directory(self._root, [_INCOMING]) as folder,
            os.scandir(folder) as left,
        ):
            found = [_half_upload(entry) for entry in left if entry.is_file(follow_symlinks=False)]
            return [upload for upload in found if upload is not None and upload.begun_at < older_than]
        return []

    def _drop(self, upload: HalfUpload) -> bool:
        try:
            with tree.directory(self._root, [_INCOMING]) as folder:
                found = os.stat(upload.name, dir_fd=folder, follow_symlinks=False)
                if found.st_mtime > upload.begun_at:
                    return False  # it is going on after all
                os.unlink(upload.name, dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def _abandon(self, upload: HalfUpload) -> bool:
        with _mapped():
            return self._drop(upload)

    def _file(self, incoming: _Incoming) -> FileIO:
        if incoming.file is None:
            with tree.directory(self._root, [_INCOMING], create=True) as folder:
                incoming.file = FileIO(os.open(incoming.name, _NEW, 0o600, dir_fd=folder), "wb")
        return incoming.file

    def _write(self, incoming: _Incoming) -> None:
        with _mapped():
            incoming.write(self._file(incoming))

    def _keep(self, key: str, incoming: _Incoming) -> StoredFile:
        with _mapped():
            file = self._file(incoming)
            digest = incoming.seal(file, self._clock())
            self._move(key, incoming.name)
            found = os.fstat(file.fileno())
            file.close()
            incoming.file = None
            return tree.stored(key, found, digest)

    def _move(self, key: str, name: str) -> None:
        *folders, leaf = tree.names(key)
        for _ in range(_TRIES):
            # A delete may remove the folder again, empty as it is, before the file is in it.
            with suppress(FileNotFoundError), tree.directory(self._root, folders, create=True) as parent:
                self._rename(name, parent, leaf)
                return
        raise StoreUnavailableError("file store", "the folder of the file vanishes while it is written")

    def _rename(self, name: str, parent: int, leaf: str) -> None:
        with tree.directory(self._root, [_INCOMING]) as incoming:
            os.rename(name, leaf, src_dir_fd=incoming, dst_dir_fd=parent)
        os.fsync(parent)

    def _discard(self, incoming: _Incoming) -> None:
        if incoming.file is not None:
            incoming.file.close()
        with suppress(FileNotFoundError), tree.directory(self._root, [_INCOMING]) as folder:
            os.unlink(incoming.name, dir_fd=folder)

    def _begin_to_read(self, key: str) -> tuple[FileIO, bytes]:
        *folders, leaf = tree.names(key)
        try:
            with tree.directory(self._root, folders) as parent:
                opened = FileIO(tree.open_file(parent, leaf), "rb")
            return opened, opened.read(_CHUNK)
        except OSError as error:
            raise _missing_or_broken(key, error) from None

    def _delete(self, key: str) -> bool:
        *folders, leaf = tree.names(key)
        try:
            with tree.directory(self._root, folders) as parent:
                os.close(tree.open_file(parent, leaf))
                os.unlink(leaf, dir_fd=parent)
        except OSError as error:
            if isinstance(_missing_or_broken(key, error), FileNotStoredError):
                return False
            raise _unavailable(error) from error
        tree.prune(self._root, folders)
        return True


def _half_upload(entry: os.DirEntry[str]) -> HalfUpload | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return HalfUpload(name=entry.name, key="", size=found.st_size, begun_at=found.st_mtime)


_TRIES = 100
_NOT_STORED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR})


def _unavailable(error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError("file store", os.strerror(error.errno or errno.EIO))


def _missing_or_broken(key: str, error: OSError) -> Exception:
    # FileNotFoundError of `tree.open_file` has no number.
    if error.errno in _NOT_STORED or isinstance(error, FileNotFoundError):
        return FileNotStoredError(key)
    return _unavailable(error)


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn errors of the disk into errors that name no path."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreUnavailableError):
            raise
        raise _unavailable(error) from error
