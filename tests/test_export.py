"""An index taken into a file and out of it: in use, killed in the middle, and from who knows where."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from dedup2d.backup import exporting
from dedup2d.backup.archive import (
    FORMAT,
    FORMAT_VERSION,
    ArchivedGeometries,
    ArchivedIndex,
    ArchiveError,
    Manifest,
    Writer,
)
from dedup2d.backup.exporting import NoRoomError, export_indexes
from dedup2d.backup.geometries import Geometries
from dedup2d.backup.importing import IndexThereError, import_indexes
from dedup2d.engine import rows
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION
from dedup2d.errors import IndexVersionError, InvalidParameterError
from dedup2d.files.local import LocalFileStore
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.protocols import FileStore
from dedup2d.testing.plans import drawing_file, plan
from dedup2d.types import DrawingFile, Match, SearchParams
from dedup2d.vision.embedded import EmbeddedVision
from tests.cli_support import command, environment, run
from tests.drawings import small_dxf
from tests.index_writer import record, sheets
from tests.serving import Served, serving
from tests.test_index_crash import check_whole, writing

pytestmark = pytest.mark.timeout(120)

KILLER = Path(__file__).with_name("kill_at_lines.py")
NAME = "catalogue.sqlite3"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_index(directory: Path, files: int, tenant: str = "tenant") -> Path:
    """Fill an index with so many files of three sheets each, and return the directory of indexes."""
    catalogue = Catalogue(directory / tenant / NAME, fingerprint_version=1)
    for number in range(files):
        catalogue.add(record(number), sheets())
    catalogue.close()
    return directory


def drawings_in(directory: Path, tenant: str = "tenant") -> int:
    with closing(sqlite3.connect(directory / tenant / NAME)) as plain:
        count: int = plain.execute("SELECT count(*) FROM drawings").fetchone()[0]
        return count


def dump(directory: Path, tenant: str = "tenant") -> list[str]:
    """Return all that is in an index but its salt, which each copy has of its own."""
    with closing(sqlite3.connect(directory / tenant / NAME)) as plain:
        return [line for line in plain.iterdump() if "'salt'" not in line]


def hidden(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


# What comes back


async def answers(directory: Path, queries: list[DrawingFile]) -> list[list[tuple[object, ...]]]:
    """Return what is found; of votes, which a DXF gets one more or less of in each process, three digits."""
    async with EmbeddedVision(directory, processes=1) as vision:
        found = [await vision.search("tenant", query, SearchParams()) for query in queries]
    return [[told(match) for match in (*one.duplicates, *one.similar)] for one in found]


def told(match: Match) -> tuple[object, ...]:
    placed = match.transform and (match.transform.mirrored, round(match.transform.rotation_degrees, 1))
    names = (match.drawing_id, match.file_hash, match.file_name, match.source, match.page)
    return (*names, match.relation, match.verdict, round(match.similarity, 3), placed, match.diff_regions)


@pytest.mark.anyio
async def test_a_restored_index_gives_the_same_answers(tmp_path: Path) -> None:
    """If this fails, whoever restores a backup finds other drawings than before, or fewer."""
    async with EmbeddedVision(tmp_path / "old", processes=1) as vision:
        for seed in range(4):
            await vision.add(
                "tenant", drawing_file(plan(seed), f"plan-{seed}.png"), metadata={"n": str(seed)}
            )
        await vision.add("tenant", drawing_file(small_dxf("plate"), "plate.dxf"), source="/plans/plate.dxf")
        gone = await vision.add("tenant", drawing_file(plan(9), "gone.png"))
        await vision.remove("tenant", gone.drawing_ids[0])
        listed = (await vision.drawings("tenant")).drawings
    done = export_indexes(tmp_path / "old", ["tenant"], tmp_path / "backup")
    assert [index.drawings for index in done.manifest.indexes] == [5]

    import_indexes(tmp_path / "backup", tmp_path / "new", ["tenant"])
    assert dump(tmp_path / "new") == dump(tmp_path / "old")
    queries = [drawing_file(plan(seed, compression=1), "q.png") for seed in (0, 3, 9)]
    queries.append(drawing_file(small_dxf("plate"), "q.dxf"))
    before = await answers(tmp_path / "old", queries)
    assert [len(matches) > 0 for matches in before] == [True, True, False, True]
    assert await answers(tmp_path / "new", queries) == before
    async with EmbeddedVision(tmp_path / "new", processes=1) as vision:
        assert (await vision.drawings("tenant")).drawings == listed
        assert (await vision.health()).status == "healthy"
        await vision.add("tenant", drawing_file(plan(7), "more.png"))


def test_a_copy_is_not_taken_for_its_original(tmp_path: Path) -> None:
    """If this fails, what was made from one index is used for another that has gone its own way."""
    make_index(tmp_path / "old", 2)
    (tmp_path / "old" / "tenant" / "segments").mkdir()
    (tmp_path / "old" / "tenant" / "segments" / "1-1-a.segment").write_bytes(b"made from the index")
    export_indexes(tmp_path / "old", ["tenant"], tmp_path / "backup")
    salts = {salt_of(tmp_path / "old")}
    import_indexes(tmp_path / "backup", tmp_path / "old", None, replace=True)
    assert not (tmp_path / "old" / "tenant" / "segments").exists()
    salts.add(salt_of(tmp_path / "old"))
    import_indexes(tmp_path / "backup", tmp_path / "new", None)
    assert len(salts | {salt_of(tmp_path / "new")}) == 3


def salt_of(directory: Path) -> str:
    catalogue = Catalogue(directory / "tenant" / NAME, fingerprint_version=1)
    try:
        return catalogue.salt()
    finally:
        catalogue.close()


@pytest.mark.once
def test_an_export_under_writes_is_of_one_moment(tmp_path: Path) -> None:
    """If this fails, a backup of a busy index has half a file, or lacks what was added before."""
    path = tmp_path / "index" / "tenant" / NAME
    path.parent.mkdir(parents=True)
    counts = []
    with writing("change", path, 1) as writer:
        for number in range(4):
            writer.wait_for("added", 20 * (number + 1))
            added = {line[2] for line in list(writer.lines) if line[0] == "added" and line[1].isdecimal()}
            removed = {line[1] for line in list(writer.lines) if line[0] == "removing"}
            done = export_indexes(tmp_path / "index", ["tenant"], tmp_path / f"backup-{number}")
            counts.append(done.manifest.indexes[0].drawings)
            import_indexes(tmp_path / f"backup-{number}", tmp_path / f"new-{number}", None)
            copy = tmp_path / f"new-{number}" / "tenant" / NAME
            assert check_whole(copy) == done.manifest.indexes[0].files
            with closing(sqlite3.connect(copy)) as plain:
                there = {one for (one,) in plain.execute("SELECT drawing_id FROM drawings")}
            assert added - removed - {line[1] for line in writer.lines if line[0] == "removing"} <= there
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] > 0


def test_an_older_index_is_brought_up_to_date(tmp_path: Path) -> None:
    """If this fails, the backup that was made before an upgrade cannot be restored after it."""
    make_index(tmp_path / "old", 2)
    with closing(sqlite3.connect(tmp_path / "old" / "tenant" / NAME)) as plain:
        plain.executescript(
            "DROP TABLE vectors; DROP TABLE shapes; ALTER TABLE drawings DROP COLUMN mm_per_pixel"
        )
        plain.execute("PRAGMA user_version = 1")
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = packed(tmp_path, (tmp_path / "old" / "tenant" / NAME).read_bytes(), drawings=6, files=2)
    [done] = import_indexes(file, tmp_path / "new", None)
    assert (done.drawings, done.stale, done.replaced) == (6, 6, False)
    assert salt_of(tmp_path / "new")


def test_tenants_go_alone_or_together(tmp_path: Path) -> None:
    """If this fails, restoring one tenant's index touches another's."""
    for count, tenant in enumerate(("acme", "globex", "initech"), 1):
        make_index(tmp_path / "index", count, tenant)
    directory, file = tmp_path / "index", tmp_path / "backup"
    export_indexes(directory, exporting.tenants_in(directory), file)
    [one] = import_indexes(file, tmp_path / "one", ["globex"])
    assert (one.tenant, exporting.tenants_in(tmp_path / "one")) == ("globex", ["globex"])
    make_index(tmp_path / "all", 9, "globex")
    with pytest.raises(IndexThereError, match="globex"):
        import_indexes(file, tmp_path / "all", None)
    assert exporting.tenants_in(tmp_path / "all") == ["globex"]
    done = import_indexes(file, tmp_path / "all", None, replace=True)
    assert [(each.tenant, each.drawings, each.replaced) for each in done] == [
        ("acme", 3, False),
        ("globex", 6, True),
        ("initech", 9, False),
    ]
    with pytest.raises(ArchiveError, match="no index of hooli, but of acme, globex, initech"):
        import_indexes(file, tmp_path / "one", ["hooli"])


def test_if_one_cannot_be_put_in_place_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an import that was refused has replaced some of the indexes."""
    for count, tenant in enumerate(("acme", "globex"), 1):
        make_index(tmp_path / "index", count, tenant)
    export_indexes(tmp_path / "index", ["acme", "globex"], tmp_path / "backup")
    make_index(tmp_path / "all", 5, "acme")
    (tmp_path / "all" / "globex").write_text("in the way")
    monkeypatch.setattr("dedup2d.backup.importing._exchange", refusing_globex)
    with pytest.raises(PermissionError):
        import_indexes(tmp_path / "backup", tmp_path / "all", None, replace=True)
    assert drawings_in(tmp_path / "all", "acme") == 15
    assert hidden(tmp_path / "all") == []


def refusing_globex(one: Path, other: Path) -> None:
    if "globex" in (one.name, other.name) and other.is_file():
        raise PermissionError(1, "not allowed")
    spare = one.with_name("spare")
    other.rename(spare)
    one.rename(other)
    spare.rename(one)


# Under a service


def found_by(served: Served, number: int) -> list[str]:
    """Return the names of the files that a search by a plan finds as duplicates."""
    with served.client() as client:
        files = {"file": ("q.png", plan(number, compression=1))}
        answer = client.post("/api/v1/dedup/2d/search", files=files, params={"compute_diff": "false"})
    answer.raise_for_status()
    return [match["file_name"] for match in answer.json()["duplicates"]]


def add_to(served: Served, number: int) -> None:
    with served.client() as client:
        answer = client.post(
            "/api/v1/dedup/2d/index/add", files={"file": (f"plan-{number}.png", plan(number))}
        )
    answer.raise_for_status()


@pytest.mark.once
def test_a_service_goes_on_with_what_was_imported(tmp_path: Path) -> None:
    """
    If this fails, a service answers from an index that is gone, or spoils the new one.

    The service has the old database open, its journal unfinished: neither what it
    writes next nor its end may get into the new one.
    """
    data, file = tmp_path / "data", tmp_path / "backup"
    with serving(data) as served:
        add_to(served, 1)
        export_indexes(data / "index", ["default"], file)
        add_to(served, 2)
        assert found_by(served, 2) == ["plan-2.png"]
        assert (data / "index" / "default" / f"{NAME}-wal").stat().st_size > 0
        import_indexes(file, data / "index", ["default"], replace=True)
        assert found_by(served, 2) == []
        assert found_by(served, 1) == ["plan-1.png"]
        add_to(served, 3)
        assert found_by(served, 3) == ["plan-3.png"]
        import_indexes(file, data / "index", ["default"], replace=True)
        add_to(served, 4)
        served.kill()
    assert check_whole_plans(data) == {"plan-1.png", "plan-4.png"}
    with serving(data) as served:
        assert found_by(served, 4) == ["plan-4.png"]
    assert hidden(data / "index") == []


def check_whole_plans(data: Path) -> set[str]:
    with closing(sqlite3.connect(data / "index" / "default" / NAME)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {name for (name,) in plain.execute("SELECT file_name FROM files")}


def test_an_old_handle_does_not_touch_the_new_journal(tmp_path: Path) -> None:
    """If this fails, a process that had the old index open deletes what was added to the new one."""
    make_index(tmp_path, 1)
    export_indexes(tmp_path, ["tenant"], tmp_path / "backup")
    old = Catalogue(tmp_path / "tenant" / NAME, fingerprint_version=1)
    old.add(record(50), sheets())
    import_indexes(tmp_path / "backup", tmp_path, None, replace=True)
    new = Catalogue(tmp_path / "tenant" / NAME, fingerprint_version=1)
    new.add(record(60), sheets())
    old.add(record(51), sheets())
    old.close()
    assert (tmp_path / "tenant" / f"{NAME}-wal").stat().st_size > 0
    third = Catalogue(tmp_path / "tenant" / NAME, fingerprint_version=1)
    assert third.counts().drawings == 6
    for each in (new, third):
        each.close()


# Killed in the middle


def store_geometries(
    store: Callable[[], FileStore], geometries: dict[str, bytes], tenant: str = "tenant"
) -> None:
    async def put() -> None:
        async with store() as files:
            for file_hash, data in geometries.items():
                await FileGeometryStore(files).put(tenant, file_hash, data)

    anyio.run(put)


def with_geometry(directory: Path, file: Path) -> None:
    """Export the tenant's index with a geometry of its first file."""
    with closing(sqlite3.connect(directory / "tenant" / NAME)) as plain:
        (file_hash,) = plain.execute("SELECT file_hash FROM files").fetchone()

    store = partial(LocalFileStore, directory.parent / "stored")
    store_geometries(store, {file_hash: b"{}"})
    with ExitStack() as stack:
        geometries = Geometries(store, stack)
        export_indexes(directory, ["tenant"], file, geometries=geometries)


def killed_everywhere(*arguments: str | Path) -> tuple[list[str], list[str], int]:
    """Return what was found after each kill, what was left in the end, and how many lines a run has."""
    done = subprocess.run(
        [sys.executable, KILLER, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    *found, left, end = done.stdout.splitlines()
    return found, left.split()[1:], int(end.split()[1])


@pytest.mark.once
@pytest.mark.parametrize("was_there", [True, False])
def test_an_import_killed_at_any_line_leaves_the_old_index_or_the_new(
    tmp_path: Path, was_there: bool
) -> None:
    """If this fails, a power cut during a restore leaves neither the old index nor the new."""
    make_index(tmp_path / "source", 2)
    with_geometry(tmp_path / "source", tmp_path / "backup")
    pristine = tmp_path / "pristine"
    if was_there:
        make_index(tmp_path / "made", 1)
        (tmp_path / "made" / "tenant").rename(pristine)
    (tmp_path / "index").mkdir()
    found, left, lines = killed_everywhere("import", tmp_path / "backup", tmp_path / "index", pristine)
    old, new = ("3" if was_there else "0"), "6"
    assert lines > 150
    assert set(found) == {old, new}
    changes = sum(one != other for one, other in pairwise(found))
    assert changes == 1, "once the new index is there it stays"
    assert left == []


@pytest.mark.once
def test_an_export_killed_at_any_line_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    """If this fails, a backup that was cut short has taken the place of the last good one."""
    make_index(tmp_path / "index", 2)
    found, left, lines = killed_everywhere("export", tmp_path / "backup", tmp_path / "index")
    assert lines > 80
    assert set(found) == {"old", "6"}
    assert sum(one != other for one, other in pairwise(found)) == 1
    assert left == []


def test_ctrl_c_ends_an_export_and_leaves_nothing(tmp_path: Path) -> None:
    """If this fails, an export that was given up leaves gigabytes behind, or cannot be given up."""
    make_index(tmp_path / "data" / "index", 300, "default")
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        command("export", tmp_path / "out" / "backup"),
        env=environment(tmp_path / "data"),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while process.poll() is None and not list((tmp_path / "out").glob(".*/snapshot")):
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) in ((130, "dedup2d: interrupted\n"), (0, ""))
    assert hidden(tmp_path / "out") == []


# Room and places


def test_what_has_no_room_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an import fills the disk that the service lives on."""
    make_index(tmp_path / "index", 3)
    export_indexes(tmp_path / "index", ["tenant"], tmp_path / "backup")
    free = type("Usage", (), {"free": 16 * 1024 * 1024 + 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(NoRoomError, match=r"bytes free and .* are needed"):
        import_indexes(tmp_path / "backup", tmp_path / "new", None)
    with pytest.raises(NoRoomError):
        export_indexes(tmp_path / "index", ["tenant"], tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert list((tmp_path / "new").iterdir()) == []


def test_an_export_writes_over_nothing_unasked(tmp_path: Path) -> None:
    """If this fails, a slip of the hand destroys a drawing, or yesterday's backup."""
    make_index(tmp_path / "index", 1)
    file = tmp_path / "backup"
    file.write_text("yesterday's")
    for place in (file, tmp_path, tmp_path / "nowhere" / "backup"):
        with pytest.raises(InvalidParameterError):
            export_indexes(tmp_path / "index", ["tenant"], place)
    assert file.read_text() == "yesterday's"
    export_indexes(tmp_path / "index", ["tenant"], file, replace=True)
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        assert archive.getnames() == ["manifest.json", f"tenant/{NAME}"]


def test_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, scripts that back up and restore get other words or exit codes."""
    make_index(tmp_path / "data" / "index", 1, "default")
    monkeypatch.setenv("DEDUP2D_DATA_DIR", str(tmp_path / "data"))
    file = tmp_path / "backup"
    done = run(capsys, "export", file, "--json")
    assert (done.code, done.json["indexes"][0]["drawings"]) == (0, 3)
    assert done.json["bytes"] == file.stat().st_size
    again = run(capsys, "export", file)
    assert (again.code, again.err.count("\n")) == (2, 1)
    there = run(capsys, "import", file)
    assert (there.code, "--replace" in there.err) == (2, True)
    new = run(capsys, "import", file, "--data-dir", tmp_path / "new")
    assert (new.code, new.out) == (0, "default: imported with 3 drawings\n")
    assert "dedup2d rebuild" in new.err
    replaced = run(capsys, "import", file, "--replace", "--all", "--json")
    assert replaced.json["indexes"] == [
        {"tenant": "default", "drawings": 3, "files": 1, "stale": 3, "geometries": 0, "replaced": True}
    ]
    monkeypatch.setenv("DEDUP2D_TENANT", "nobody")
    assert run(capsys, "export", tmp_path / "other").code == 2


# From who knows where


def packed(
    tmp_path: Path, database: bytes, *, drawings: int = 3, files: int = 1, geometries: bytes | None = None
) -> Path:
    """Write an archive with *database* and one entry of *geometries*, whose sums fit."""
    file = tmp_path / "packed"
    with file.open("wb") as out:
        writer = Writer(out, 1)
        digest = writer.add(f"tenant/{NAME}", len(database), io.BytesIO(database), lambda _: None)
        index = ArchivedIndex(
            tenant="tenant",
            bytes=len(database),
            sha256=digest,
            drawings=drawings,
            files=files,
            stale=0,
            geometries=None,
        )
        if geometries is not None:
            name, size = "tenant/geometries.tar", len(geometries)
            digest = writer.add(name, size, io.BytesIO(geometries), lambda _: None)
            index = evolve(index, geometries=ArchivedGeometries(geometries=1, bytes=size, sha256=digest))
        manifest = Manifest(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            dedup2d="0.1.0",
            created_at=0.0,
            fingerprint_version=FINGERPRINT_VERSION,
            schema_version=rows.SCHEMA_VERSION,
            indexes=(index,),
        )
        writer.finish(manifest)
    return file


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole archive of one index with three drawings."""
    place = tmp_path_factory.mktemp("sound")
    make_index(place / "index", 1)
    export_indexes(place / "index", ["tenant"], place / "backup")
    return (place / "backup").read_bytes()


def member(name: str, data: bytes = b"", **fields: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0")


def with_manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """Return what changes the manifest of an archive."""

    def changed(whole: bytes) -> bytes:
        size = tarfile.TarInfo.frombuf(whole[:512], "utf-8", "strict").size
        manifest = json.loads(whole[512 : 512 + size])
        change(manifest)
        return whole[:512] + json.dumps(manifest).encode().ljust(size) + whole[512 + size :]

    return changed


def first_index(**fields: Any) -> Callable[[bytes], bytes]:
    return with_manifest(lambda manifest: manifest["indexes"][0].update(fields))


DATABASE = 512 + 5120
"""Where the header of the first database is."""


def before_the_database(extra: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:DATABASE] + extra + whole[DATABASE:]


def instead_of_the_database(extra: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:DATABASE] + extra


PAX = member("pax", b"30 path=../../etc/cron.d/evil\n", type=tarfile.XHDTYPE)
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "zeros": lambda whole: bytes(len(whole)),
    "text": lambda _: b"hello" * 1000,
    "cut in the header": lambda whole: whole[:100],
    "cut in the manifest": lambda whole: whole[:1000],
    "cut before the database": lambda whole: whole[:DATABASE],
    "cut in the database": lambda whole: whole[:-3000],
    "one bit in the database": lambda whole: whole[:20_000] + bytes([whole[20_000] ^ 1]) + whole[20_001:],
    "one bit in the manifest": lambda whole: whole[:520] + bytes([whole[520] ^ 255]) + whole[521:],
    "more behind": lambda whole: whole + member("more", b"more"),
    "a link": before_the_database(member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a link as database": instead_of_the_database(
        member(f"tenant/{NAME}", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    ),
    "a hard link": before_the_database(member("link", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "a directory": before_the_database(member("tenant", type=tarfile.DIRTYPE)),
    "a device": before_the_database(member("null", type=tarfile.CHRTYPE)),
    "a pax header": before_the_database(PAX),
    "a long name": before_the_database(member("././@LongLink", b"x" * 600, type=tarfile.GNUTYPE_LONGNAME)),
    "a way out": before_the_database(member("../../evil", b"evil")),
    "an absolute name": before_the_database(member("/tmp/evil", b"evil")),
    "another member": before_the_database(member("more", b"more")),
    "a huge member": instead_of_the_database(member(f"tenant/{NAME}")[:124] + b"\x80" + b"\xff" * 11),
    "no manifest": lambda whole: whole[DATABASE:],
    "a huge manifest": lambda whole: member("manifest.json", b" " * 70 * 1024 * 1024),
    "a manifest of a list": lambda whole: member("manifest.json", b"[]" + b" " * 510) + whole[DATABASE:],
    "a manifest too deep": lambda whole: member("manifest.json", b"[" * 4096) + whole[DATABASE:],
    "another format": with_manifest(lambda manifest: manifest.update(format="other")),
    "a newer format": with_manifest(lambda manifest: manifest.update(format_version=2)),
    "newer fingerprints": with_manifest(lambda manifest: manifest.update(fingerprint_version=10**6)),
    "no index": with_manifest(lambda manifest: manifest.update(indexes=[])),
    "the same twice": with_manifest(lambda manifest: manifest.update(indexes=manifest["indexes"] * 2)),
    "a tenant out of here": first_index(tenant="../../tmp"),
    "a tenant with a slash": first_index(tenant="a/b"),
    "a tenant in capitals": first_index(tenant="TENANT"),
    "a tenant with a line end": first_index(tenant="tenant\n"),
    "another tenant": first_index(tenant="other"),
    "a size that is not": first_index(bytes=2**61),
    "a size below zero": first_index(bytes=-1),
    "a size of text": first_index(bytes="many"),
    "another sum": first_index(sha256="0" * 64),
    "more drawings than there are": first_index(drawings=4),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_archive_is_refused(
    name: str,
    sound: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, a file from outside changes the index, or what lies elsewhere on this machine."""
    monkeypatch.setenv("DEDUP2D_TENANT", "tenant")
    make_index(tmp_path / "data" / "index", 2)
    before = dump(tmp_path / "data" / "index")
    file = tmp_path / "archive"
    file.write_bytes(HOSTILE[name](sound))
    done = run(capsys, "import", file, "--all", "--replace", "--data-dir", tmp_path / "data")
    assert done.code == 2, done
    assert done.err.count("\n") == 1
    assert done.err.startswith("dedup2d: error: ")
    assert dump(tmp_path / "data" / "index") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "data"]
    assert [path.name for path in (tmp_path / "data" / "index").iterdir()] == ["tenant"]


def test_the_sound_archive_is_taken(sound: bytes, tmp_path: Path) -> None:
    """If this fails, the archives of the test above are refused for another reason than theirs."""
    file = tmp_path / "archive"
    file.write_bytes(sound)
    assert [one.drawings for one in import_indexes(file, tmp_path / "index", None)] == [3]
    assert sound[DATABASE : DATABASE + 6] == b"tenant"


FOREIGN = {
    "a trigger": "CREATE TRIGGER more AFTER INSERT ON files BEGIN DELETE FROM files; END",
    "another trigger": "DROP TRIGGER count_added; CREATE TRIGGER count_added AFTER INSERT ON drawings"
    " BEGIN DELETE FROM files; END",
    "a view": "DROP TABLE removals; CREATE VIEW removals AS SELECT 1 AS change, 2 AS key",
    "a table more": "CREATE TABLE more(x)",
    "a table less": "DROP TABLE vectors",
    "a column more": "ALTER TABLE files ADD COLUMN more TEXT",
    "a column computed": "ALTER TABLE files ADD COLUMN more TEXT AS (hex(file_hash))",
    "an index more": "CREATE INDEX more ON files(size)",
    "an index over what is computed": "DROP INDEX files_by_source;"
    " CREATE UNIQUE INDEX files_by_source ON files(hex(source))",
    "a virtual table": "DROP TABLE removals; CREATE VIRTUAL TABLE removals USING fts5(change, key)",
    "another owner": "PRAGMA application_id = 7",
    "no version": "PRAGMA user_version = 0",
    "counts that lie": "UPDATE counts SET drawings = 100",
    "half a drawing": "PRAGMA foreign_keys = OFF; DELETE FROM files",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_database_is_refused(name: str, tmp_path: Path) -> None:
    """If this fails, statements that others wrote run in the service, or it fails with each search."""
    make_index(tmp_path / "made", 1)
    with closing(sqlite3.connect(tmp_path / "made" / "tenant" / NAME)) as plain:
        plain.executescript(FOREIGN[name])
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        files = plain.execute("SELECT count(*) FROM files").fetchone()[0]
    file = packed(tmp_path, (tmp_path / "made" / "tenant" / NAME).read_bytes(), files=files)
    with pytest.raises(ArchiveError, match="was not written by dedup2d"):
        import_indexes(file, tmp_path / "index", None)
    assert list((tmp_path / "index").iterdir()) == []


def test_an_index_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """If this fails, an old program opens what it does not understand."""
    make_index(tmp_path / "made", 1)
    with closing(sqlite3.connect(tmp_path / "made" / "tenant" / NAME)) as plain:
        plain.execute(f"PRAGMA user_version = {rows.SCHEMA_VERSION + 1}")
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = packed(tmp_path, (tmp_path / "made" / "tenant" / NAME).read_bytes())
    with pytest.raises(IndexVersionError, match="upgrade dedup2d"):
        import_indexes(file, tmp_path / "index", None)
    assert list((tmp_path / "index").iterdir()) == []


def test_a_damaged_database_with_the_right_sum_is_refused(tmp_path: Path) -> None:
    """If this fails, an index that was damaged before the export is put in the place of a sound one."""
    make_index(tmp_path / "made", 3)
    whole = bytearray((tmp_path / "made" / "tenant" / NAME).read_bytes())
    whole[8192:16384] = bytes(8192)
    file = packed(tmp_path, bytes(whole), drawings=9, files=3)
    with pytest.raises(ArchiveError, match="damaged"):
        import_indexes(file, tmp_path / "index", None)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """If this fails, an export or import of a large index is killed for its memory."""
    script = (
        "import resource, sys, pathlib\n"
        "from dedup2d.backup.exporting import export_indexes\n"
        "from dedup2d.backup.importing import import_indexes\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "export_indexes(place / 'index', ['tenant'], place / 'backup')\n"
        "import_indexes(place / 'backup', place / 'new', None)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    make_index(tmp_path / "index", 500)
    size = (tmp_path / "index" / "tenant" / NAME).stat().st_size
    assert size > 50 * 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 16 * 1024
