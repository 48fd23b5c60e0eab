"""The geometries of drawings in an export: back with the index, and from who knows where."""

from __future__ import annotations

import gzip
import os
import sqlite3
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import anyio
import pytest

from dedup2d.backup.archive import ArchiveError
from dedup2d.backup.exporting import export_indexes
from dedup2d.backup.geometries import Geometries
from dedup2d.backup.importing import import_indexes
from dedup2d.files.keys import geometry_key, geometry_owner
from dedup2d.files.local import LocalFileStore
from dedup2d.files.s3 import S3FileStore
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.protocols import MAX_GEOMETRY_BYTES, FileStore
from tests.backends import s3_options
from tests.cli_support import run
from tests.test_export import NAME, dump, hidden, make_index, member, packed, store_geometries

Store = Callable[[], FileStore]
STORES: dict[str, Callable[[Path], Store]] = {
    "local": lambda directory: partial(LocalFileStore, directory),
    "s3": lambda _: partial(S3FileStore, s3_options()),
}


def stored_geometries(store: Store, tenant: str = "tenant") -> dict[str, bytes]:
    async def load() -> dict[str, bytes]:
        async with store() as files:
            owners = [geometry_owner(one.key) for one in await files.list(prefix=f"_geometry/{tenant}/")]
            geometries = FileGeometryStore(files)
            return {one[1]: await geometries.get(*one) or b"" for one in owners if one is not None}

    return anyio.run(load)


def spoil(store: Store, tenant: str, file_hash: str) -> None:
    async def rubbish() -> AsyncIterator[bytes]:
        yield b"no gzip"

    async def put() -> None:
        async with store() as files:
            await files.put(geometry_key(tenant, file_hash), rubbish())

    anyio.run(put)


def hashes_in(directory: Path, tenant: str = "tenant") -> list[str]:
    with closing(sqlite3.connect(directory / tenant / NAME)) as plain:
        return [row[0] for row in plain.execute("SELECT DISTINCT file_hash FROM files ORDER BY file_key")]


@pytest.mark.parametrize("name", STORES)
def test_geometries_of_the_drawings_come_along(name: str, tmp_path: Path) -> None:
    """If this fails, a restored index compares drawings by pictures that it compared by entities before."""
    make_index(tmp_path / "old", 3)
    first, second, third = hashes_in(tmp_path / "old")
    kept = {first: b'{"entities":[]}', second: b'{"layers":{}}' * 1000}
    store, other = STORES[name](tmp_path / "files"), STORES[name](tmp_path / "restored")
    store_geometries(store, {**kept, third: b"{}", "f" * 64: b'{"of": "no drawing"}'})
    store_geometries(store, {first: b'{"of": "another"}'}, tenant="other")
    spoil(store, "tenant", third)
    with ExitStack() as stack:
        geometries = Geometries(store, stack)
        done = export_indexes(tmp_path / "old", ["tenant"], tmp_path / "backup", geometries=geometries)
        (archived,) = [index.geometries for index in done.manifest.indexes]
        assert (archived and archived.geometries, done.damaged_geometries) == (2, 1)
        with tarfile.open(tmp_path / "backup") as archive:
            inner = archive.extractfile("tenant/geometries.tar")
            assert inner is not None
            with tarfile.open(fileobj=inner) as tar:
                assert sorted(tar.getnames()) == sorted(f"{one}.json.gz" for one in kept)

        restored = Geometries(other, stack)
        (imported,) = import_indexes(tmp_path / "backup", tmp_path / "new", None, geometries=restored)
        assert imported.geometries == 2
        assert stored_geometries(other) == kept
        # Who asks for no geometries gets the index alone.
        (imported,) = import_indexes(tmp_path / "backup", tmp_path / "plain", None)
        assert (imported.geometries, hidden(tmp_path / "plain")) == (0, [])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (member("../../evil.json.gz", b"x"), "something else"),
        (member("0" * 64 + ".json.gz", gzip.compress(b"0" * (MAX_GEOMETRY_BYTES + 1))), "damaged"),
        (member("0" * 64 + ".json.gz", b"no gzip"), "damaged"),
        (member("0" * 64 + ".json.gz"), "something else"),
        (member("0" * 64 + ".json.gz", b"link", type=tarfile.SYMTYPE), "not plain files"),
        (member("0" * 64 + ".json.gz", gzip.compress(b"{}")) + bytes(512), "something follows"),
        (b"", "cut off"),
    ],
    ids=["a way out", "a bomb", "no gzip", "nothing", "a link", "more", "less"],
)
def test_hostile_geometries_leave_the_index_as_it_was(tmp_path: Path, entries: bytes, words: str) -> None:
    """If this fails, an archive from somebody else writes elsewhere, fills the memory, or halves an index."""
    make_index(tmp_path / "index", 1)
    database = (make_index(tmp_path / "source", 1) / "tenant" / NAME).read_bytes()
    file = packed(tmp_path, database, geometries=entries)
    before = dump(tmp_path / "index")
    with ExitStack() as stack:
        geometries = Geometries(STORES["local"](tmp_path / "files"), stack)
        with pytest.raises(ArchiveError, match=words):
            import_indexes(file, tmp_path / "index", None, geometries=geometries, replace=True)
    assert dump(tmp_path / "index") == before
    assert hidden(tmp_path / "index") == []
    assert not (tmp_path / "evil.json.gz").exists()


def test_the_commands_take_geometries_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, who follows the how-to restores an index without geometries, or one not to be read."""
    make_index(tmp_path / "data" / "index", 2, "default")
    first, second = hashes_in(tmp_path / "data" / "index", "default")
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path / "data"))
    assert run(capsys, "export", tmp_path / "without").out.startswith("default: 6 drawings exported\n")
    assert not (tmp_path / "data" / "files").exists()

    store = STORES["local"](tmp_path / "data" / "files")
    store_geometries(store, {first: b"{}", second: b"{}"}, "default")
    spoil(store, "default", second)
    done = run(capsys, "export", tmp_path / "with")
    assert "default: 6 drawings and 1 geometry exported" in done.out
    assert "1 geometry is damaged and left out" in done.err
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path / "new"))
    (tmp_path / "new").mkdir()
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    os.chown(tmp_path / "new", owner, -1)
    (tmp_path / "new" / "files").mkdir()
    (tmp_path / "secret").write_bytes(b"root's")
    (tmp_path / "new" / "files" / "way-out").symlink_to(tmp_path / "secret")
    assert run(capsys, "import", tmp_path / "with").out == (
        "default: imported with 6 drawings and 1 geometry\n"
    )
    assert stored_geometries(STORES["local"](tmp_path / "new" / "files"), "default") == {first: b"{}"}
    assert {path.lstat().st_uid for path in (tmp_path / "new" / "files").rglob("*")} == {owner}
    assert (tmp_path / "secret").stat().st_uid == os.geteuid()
