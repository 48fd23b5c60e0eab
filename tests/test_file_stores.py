"""File stores: the contract on each, broken ones it must refuse, and what a directory adds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from heapq import nsmallest
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from dedup2d.errors import FileNotStoredError, StoreUnavailableError
from dedup2d.files import tree
from dedup2d.files.keys import check_key
from dedup2d.files.local import LocalFileStore
from dedup2d.files.memory import MemoryFileStore
from dedup2d.protocols import FileStore, LocalFiles
from dedup2d.testing import FILE_STORE_CHECKS, ContractError, ManualClock, check_file_store
from dedup2d.types import StoredFile
from tests.backends import FILE_STORES, OWN_CLOCK


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        yield chunk


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def read(store: FileStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.open(key)])


@pytest.mark.parametrize("check", FILE_STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", FILE_STORES)
async def test_contract(name: str, check: Callable[[FileStore], Awaitable[None]], tmp_path: Path) -> None:
    """If this fails, uploads of this store can be lost, mixed up, half written or out of bounds."""
    with anyio.fail_after(40):
        async with FILE_STORES[name](ManualClock(), tmp_path) as store:
            await check(store)


@pytest.mark.parametrize("name", [name for name in FILE_STORES if name not in OWN_CLOCK])
async def test_time_is_that_of_the_clock(name: str, tmp_path: Path) -> None:
    """If this fails, files are collected by another clock than the jobs they belong to."""
    clock = ManualClock(1_700_000_000.123)
    async with FILE_STORES[name](clock, tmp_path) as store:
        stored = await store.put("a", chunks(b"x"))
        assert stored.created_at == clock()
        clock.advance(10)
        await store.put("b", chunks(b"x"))

        assert [file.key for file in await store.list(older_than=clock())] == ["a"]
        assert [file.created_at for file in await store.list()] == [clock() - 10, clock()]


# -- broken stores, each wrong in one thing ---------------------------------------------------


class Broken(MemoryFileStore):
    async def _all(self) -> Sequence[StoredFile]:
        return await super().list(limit=10**6)


class KeepsHalf(Broken):
    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        check_key(key)
        data = b""
        async for chunk in chunks:
            data += chunk
            stored = self._keep(key, data)
        return self._keep(key, data) if not data else stored


class GivesOneChunk(Broken):
    async def open(self, key: str) -> AsyncIterator[bytes]:
        yield b"".join([chunk async for chunk in super().open(key)])


class DeletesAnything(Broken):
    async def delete(self, key: str) -> bool:
        await super().delete(key)
        return True


class ListsUnsorted(Broken):
    async def list(self, **wanted: object) -> Sequence[StoredFile]:
        return list(reversed(await super().list(**wanted)))  # type: ignore[arg-type]  # any of its keywords


class ListsByFolder(Broken):
    """Sorts as a naive walk of directories does: `a/b` before `a-b`."""

    async def list(
        self, *, prefix: str = "", older_than: float | None = None, limit: int = 1000, after: str = ""
    ) -> Sequence[StoredFile]:
        files = sorted(await self._all(), key=lambda file: file.key.split("/"))
        fitting = [file for file in files if file.key.startswith(prefix) and file.key > after]
        if older_than is not None:
            fitting = [file for file in fitting if file.created_at < older_than]
        return fitting[:limit]


class RepeatsAfter(Broken):
    async def list(
        self, *, prefix: str = "", older_than: float | None = None, limit: int = 1000, after: str = ""
    ) -> Sequence[StoredFile]:
        fitting = [file for file in await self._all() if file.key.startswith(prefix) and file.key >= after]
        if older_than is not None:
            fitting = [file for file in fitting if file.created_at < older_than]
        return fitting[:limit]


class ListsOfTheSameAge(Broken):
    async def list(self, *, older_than: float | None = None, **wanted: object) -> Sequence[StoredFile]:
        later = None if older_than is None else older_than + 1e-3
        return await super().list(older_than=later, **wanted)  # type: ignore[arg-type]  # any of its keywords


class PrefixIsFolder(Broken):
    async def list(self, *, prefix: str = "", **wanted: object) -> Sequence[StoredFile]:
        files = await super().list(prefix=prefix, **wanted)  # type: ignore[arg-type]  # any of its keywords
        return [file for file in files if not prefix or file.key.startswith(prefix.rstrip("/") + "/")]


class HashesNothing(Broken):
    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        return evolve(await super().put(key, chunks), sha256="")


class IgnoresCase(Broken):
    def _keep(self, key: str, data: bytes) -> StoredFile:
        return evolve(super()._keep(key.lower(), data), key=key)


class FileOrFolder(Broken):
    """As a plain directory is: where a file `a` is there cannot be `a/b`."""

    def _keep(self, key: str, data: bytes) -> StoredFile:
        if any(key.startswith(f"{other}/") for other in self._held):
            raise StoreUnavailableError("file store", "not a directory")
        return super()._keep(key, data)


class TakesAnyKey(Broken):
    async def delete(self, key: str) -> bool:
        return self._held.pop(key, None) is not None


class MixesWriters(Broken):
    """Writes in place, so that two at once, or a reader, see a mixture."""

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> StoredFile:
        check_key(key)
        data = bytearray()
        async for chunk in chunks:
            data += chunk
        await anyio.lowlevel.checkpoint()
        old = self._held[key].data if key in self._held else b""
        return self._keep(key, bytes(data) + old[len(data) :])


@pytest.mark.parametrize(
    "broken",
    [
        *(KeepsHalf, GivesOneChunk, DeletesAnything, ListsUnsorted, ListsByFolder, RepeatsAfter),
        *(ListsOfTheSameAge, PrefixIsFolder, HashesNothing, IgnoresCase, FileOrFolder, TakesAnyKey),
        MixesWriters,
    ],
)
async def test_contract_refuses_broken_stores(broken: Callable[..., MemoryFileStore]) -> None:
    """If this fails, somebody's broken store passes for one that keeps the contract."""
    with pytest.raises(ContractError):
        await check_file_store(lambda clock: broken(clock=clock), seconds=10)


# -- what the stores add ----------------------------------------------------------------------


async def test_memory_is_bounded() -> None:
    """If this fails, uploads fill the memory of the process instead of being refused."""
    async with MemoryFileStore(max_bytes=100) as store:
        await store.put("a", chunks(b"x" * 60))
        with pytest.raises(StoreUnavailableError, match="100 bytes are full"):
            await store.put("b", chunks(b"x" * 30, b"x" * 30))
        await store.put("b", chunks(b"x" * 40))
        await store.delete("a")
        await store.put("c", chunks(b"x" * 60))
        with pytest.raises(StoreUnavailableError):
            await store.put("d", chunks(b"x"))


async def test_links_lead_nowhere(tmp_path: Path) -> None:
    """If this fails, a link put into the directory gives away or destroys files outside of it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (outside / "empty").mkdir()
    root = tmp_path / "files"
    async with LocalFileStore(root) as store:
        await store.put("real/file", chunks(b"data"))
        (root / "folder+").symlink_to(outside)
        (root / "link").symlink_to(outside / "secret")
        (root / "real+" / "up").symlink_to("../../outside/secret")

        for key in ("folder/secret", "link", "real/up"):
            with pytest.raises(FileNotStoredError):
                await anext(store.open(key))
            with pytest.raises(FileNotStoredError):
                store.local_path(key)
            assert not await store.delete(key)
        with pytest.raises(StoreUnavailableError):
            await store.put("folder/new", chunks(b"x"))
        await store.put("link", chunks(b"mine"))
        assert [file.key for file in await store.list()] == ["link", "real/file"]

    assert (outside / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in outside.iterdir()) == ["empty", "secret"]


async def test_foreign_things_in_the_directory_are_passed_over(tmp_path: Path) -> None:
    """If this fails, a pipe or folder in the directory blocks the store or is taken for a file."""
    root = tmp_path / "files"
    async with LocalFileStore(root) as store:
        os.mkfifo(root / "pipe")
        (root / "folder").mkdir()
        (root / "folder" / "file").write_bytes(b"x")
        (root / "two words").write_bytes(b"x")
        (root / ".hidden").write_bytes(b"x")
        with anyio.fail_after(5):
            for key in ("pipe", "folder"):
                with pytest.raises(FileNotStoredError):
                    await anext(store.open(key))
                assert not await store.delete(key)
            assert await store.list() == []


async def test_files_can_be_read_in_place(tmp_path: Path) -> None:
    """If this fails, the engine copies every upload, or reads the wrong file."""
    async with LocalFileStore(tmp_path / "files") as store:
        await store.put("a/b", chunks(b"data"))

        assert isinstance(store, LocalFiles)
        assert Path(store.local_path("a/b")).read_bytes() == b"data"
        assert not Path(store.local_path("a/c")).exists()


async def test_files_are_private(tmp_path: Path) -> None:
    """If this fails, other users of the machine read the drawings of a company."""
    async with LocalFileStore(tmp_path / "files") as store:
        await store.put("a/b", chunks(b"data"))

        for path in [tmp_path / "files", *(tmp_path / "files").rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0


async def test_empty_folders_go_away(tmp_path: Path) -> None:
    """If this fails, every job leaves a folder behind for ever."""
    async with LocalFileStore(tmp_path / "files") as store:
        await store.put("a/b/c", chunks(b"x"))
        await store.put("a/d", chunks(b"x"))
        await store.delete("a/b/c")
        assert (entries(tmp_path / "files" / "a+")) == ["d"]
        await store.delete("a/d")

    assert entries(tmp_path / "files") == [".incoming"]


async def test_half_written_files_are_removed_when_old(tmp_path: Path) -> None:
    """If this fails, crashes fill the disk, or a start removes what another process writes."""
    clock = ManualClock()
    root = tmp_path / "files"
    async with LocalFileStore(root, clock=clock):
        pass
    for name, age in (("old", 3601), ("young", 3599)):
        left = root / ".incoming" / name
        left.write_bytes(b"half")
        os.utime(left, (clock() - age, clock() - age))

    async with LocalFileStore(root, clock=clock, stale_seconds=3600) as store:
        assert await store.list() == []

    assert entries(root / ".incoming") == ["young"]


KILLED = """
import sys, anyio
from dedup2d.files.local import LocalFileStore

async def data(number):
    for _ in range(4):
        yield bytes([number % 256]) * 600_000

async def main():
    async with LocalFileStore(sys.argv[1]) as store:
        for number in range(int(sys.argv[2]), 10**9):
            await store.put(f"folder/{number % 50}", data(number))
            print(number, flush=True)

anyio.run(main)
"""


FULL_DISK = """
import resource, sys, anyio
from dedup2d.errors import StoreUnavailableError
from dedup2d.files.local import LocalFileStore

async def data(size):
    for _ in range(size):
        yield bytes(100_000)

async def main():
    async with LocalFileStore(sys.argv[1]) as store:
        await store.put("a", data(2))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            await store.put("a", data(50))
        except StoreUnavailableError as error:
            print(error)
        print([(file.key, file.size) for file in await store.list()])

anyio.run(main)
"""


async def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """If this fails, an upload to a full disk destroys a file, or leaves half of one behind."""
    done = await anyio.run_process([sys.executable, "-c", FULL_DISK, str(tmp_path / "files")])
    error, files = done.stdout.decode().splitlines()

    assert error.startswith("the file store cannot work now (File too large)")
    assert files == "[('a', 200000)]"
    assert entries(tmp_path / "files" / ".incoming") == []


async def test_kill_leaves_whole_files(tmp_path: Path) -> None:
    """If this fails, a crash during an upload leaves half a drawing that is searched as if it were whole."""
    root, number = tmp_path / "files", 0
    for round_ in range(5):
        worker = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(root), str(number)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        for _ in range(3 + round_ * 4):
            number = int(worker.stdout.readline())
        worker.send_signal(signal.SIGKILL)
        number = max([number, *(int(line) for line in worker.stdout if line.endswith("\n"))])
        worker.stdout.close()
        worker.wait()

        async with LocalFileStore(root) as store:
            known = {file.key: file.size for file in await store.list()}
            assert set(known.values()) == {2_400_000}
            last = await read(store, f"folder/{number % 50}")
            assert len(set(last)) == 1


async def test_lists_hold_few_names_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, listing a full store loads every name there is."""
    asked: list[int] = []

    def counting(number: int, names: Iterable[str]) -> list[str]:
        found = nsmallest(number, names)
        asked.append(len(found))
        return found

    monkeypatch.setattr(tree, "nsmallest", counting)
    async with LocalFileStore(tmp_path / "files") as store:
        for number in range(60):
            await store.put(f"f{number % 3}/{number:03}", chunks(b""))
        asked.clear()
        assert len(await store.list(limit=5, after="f1/020")) == 5

    assert max(asked) <= 5
    assert len(asked) <= 3


async def test_disk_errors_name_no_path(tmp_path: Path) -> None:
    """If this fails, a full or missing disk shows clients where the server keeps its files."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailableError) as caught:
        async with LocalFileStore(tmp_path / "file" / "files"):
            pass
    assert "Not a directory" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


async def test_memory_of_a_put_is_bounded(tmp_path: Path) -> None:
    """If this fails, an upload is held in memory as a whole before it is written."""
    async with LocalFileStore(tmp_path / "files") as store:

        async def watched() -> AsyncIterator[bytes]:
            for number in range(50):
                written = sum(file.stat().st_size for file in (tmp_path / "files" / ".incoming").iterdir())
                assert written >= number * 65536 - 1024 * 1024
                yield bytes(65536)

        stored = await store.put("a", watched())

    assert stored.size == 50 * 65536
