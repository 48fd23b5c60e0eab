"""The catalogue of an index: what is added, replaced, removed, listed and told to other processes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from dedup2d.database import Database
from dedup2d.engine import rows
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.records import FileRecord, KnownFile, SheetRecord, drawing_id
from dedup2d.errors import (
    DrawingNotFoundError,
    IndexVersionError,
    InternalError,
    InvalidParameterError,
    VisionUnavailableError,
)

VERSION = 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalogue.sqlite3"


@pytest.fixture(params=["disk", "memory"])
def catalogue(request: pytest.FixtureRequest, path: Path) -> Iterator[Catalogue]:
    made = opened(path if request.param == "disk" else None)
    yield made
    made.close()


def opened(path: Path | None, *, busy_seconds: float = 10.0, version: int = VERSION) -> Catalogue:
    ticks = iter(range(1000, 1_000_000))
    return Catalogue(
        path,
        fingerprint_version=version,
        clock=lambda: float(next(ticks)),
        busy_seconds=busy_seconds,
    )


def file(number: int = 1, **changes: object) -> FileRecord:
    made = FileRecord(file_hash=f"{number:064x}", file_name=f"part-{number}.png", size=100 + number)
    return evolve(made, **changes)


def sheets(count: int = 1, *, mark: bytes = b"", version: int = VERSION) -> list[SheetRecord]:
    return [
        SheetRecord(
            page=page,
            sheet=f"Layout{page}",
            format="png",
            width=200,
            height=100,
            fingerprint_version=version,
            fingerprint=b"fingerprint" + mark,
            ink=b"ink" + mark,
            warnings=("something was lost",) if page == 2 else (),
        )
        for page in range(1, count + 1)
    ]


def test_added_sheets_are_read_back_as_given(catalogue: Catalogue) -> None:
    """A drawing's facts, picture and fingerprint would be lost or mixed up between sheets."""
    record = file(source="/plans/a.png", metadata={"customer": "Müller"})
    ids, added = catalogue.add(record, sheets(2))

    assert added
    assert [drawing_id(record, 1), drawing_id(record, 2)] == list(ids)
    second = catalogue.drawing(ids[1])
    assert (
        second.page,
        second.sheet,
        second.format,
        second.width,
        second.height,
    ) == (2, "Layout2", "png", 200, 100)
    assert second.warnings == ("something was lost",)
    assert second.metadata == {"customer": "Müller"}
    assert second.source == "/plans/a.png"
    assert second.created_at == 1000.0
    assert catalogue.picture(ids[1]) == b"ink"
    (stored,) = catalogue.sheets([catalogue.key_of(ids[0])])
    assert (stored.fingerprint, stored.ink, stored.version) == (b"fingerprint", b"ink", VERSION)


def test_ids_are_short_safe_and_depend_on_origin(catalogue: Catalogue) -> None:
    """Ids would clash between two files of the same bytes, or break a URL."""
    a = drawing_id(file(source="x"), 1)

    assert len(a) == 24
    assert a.isascii()
    assert a.isalnum()
    assert (
        len({a, drawing_id(file(source="x"), 2), drawing_id(file(file_name="x"), 1), drawing_id(file(2), 1)})
        == 4
    )


def test_adding_the_same_file_again_changes_nothing(catalogue: Catalogue) -> None:
    """Indexing a folder twice would double every drawing."""
    first, _ = catalogue.add(file(), sheets(2))
    head = catalogue.head()
    second, added = catalogue.add(file(), sheets(2))

    assert not added
    assert first == second
    assert head == catalogue.head()
    assert catalogue.counts().drawings == 2


def test_the_same_bytes_elsewhere_are_another_drawing(catalogue: Catalogue) -> None:
    """A copy of a file in another folder would hide the first one or be hidden by it."""
    catalogue.add(file(source="/a/x.png"), sheets())
    catalogue.add(file(source="/b/x.png"), sheets())
    catalogue.add(file(), sheets())
    catalogue.add(file(file_name="other.png"), sheets())

    assert catalogue.counts().drawings == 4
    assert len(catalogue.same_bytes(file().file_hash, limit=10)) == 4


def test_a_changed_source_replaces_its_old_sheets(catalogue: Catalogue) -> None:
    """After a drawing was edited and indexed again, searches would find sheets that no longer exist."""
    old, _ = catalogue.add(file(1, source="/a.pdf"), sheets(3))
    new, added = catalogue.add(file(2, source="/a.pdf"), sheets(1, mark=b"new"))

    assert added
    assert catalogue.counts().drawings == 1
    assert list(new) == [one.drawing_id for one in catalogue.of_source("/a.pdf")]
    with pytest.raises(DrawingNotFoundError):
        catalogue.drawing(old[0])


def test_a_touched_file_is_known_by_its_new_time(catalogue: Catalogue) -> None:
    """A file whose time changed but not its bytes would be read anew at every run."""
    catalogue.add(file(source="/a.png", mtime_ns=5, metadata={"k": "1"}), sheets())
    again = catalogue.touch(file(source="/a.png", mtime_ns=9))

    assert KnownFile(101, 9, file().file_hash) == catalogue.known("/a.png")
    assert catalogue.drawing(again[0]).metadata == {"k": "1"}
    assert catalogue.touch(file(7, source="/a.png", mtime_ns=11)) == ()
    assert catalogue.known("/b.png") is None


def test_a_removed_sheet_comes_back_when_its_file_is_added_again(catalogue: Catalogue) -> None:
    """Adding a file of which one sheet was removed would be taken for done."""
    ids, _ = catalogue.add(file(), sheets(2))
    catalogue.remove(ids[0])
    again, added = catalogue.add(file(), sheets(2))

    assert added
    assert ids == again
    assert catalogue.counts().drawings == 2


def test_removing_leaves_no_blob_behind(path: Path) -> None:
    """What a customer had removed would stay readable in the file."""
    made = opened(path)
    ids, _ = made.add(file(), sheets(2, mark=b"SECRET" * 4000))
    size = path.stat().st_size + path.with_name(path.name + "-wal").stat().st_size
    for one in ids:
        made.remove(one)
    made.close()

    assert b"SECRET" not in path.read_bytes()
    assert path.stat().st_size < size / 2
    with sqlite3.connect(path) as plain:
        for table in ("files", "drawings", "fingerprints", "pictures"):
            assert plain.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
    plain.close()


def test_what_is_not_there_is_named(catalogue: Catalogue) -> None:
    """Callers would get an error of the database, or none."""
    for call in (catalogue.drawing, catalogue.picture, catalogue.remove, catalogue.key_of):
        with pytest.raises(DrawingNotFoundError, match="nothere"):
            call("nothere")


def test_pages_go_on_although_drawings_come_and_go(catalogue: Catalogue) -> None:
    """A client that pages through a busy index would see drawings twice or miss some."""
    ids = [catalogue.add(file(n), sheets())[0][0] for n in range(7)]
    first = catalogue.page(limit=3)
    catalogue.add(file(100), sheets())
    catalogue.remove(ids[3])
    second = catalogue.page(limit=3, page_token=first.next_page_token)
    third = catalogue.page(limit=3, page_token=second.next_page_token)

    assert [ids[6], ids[5], ids[4]] == [one.drawing_id for one in first.drawings]
    assert [ids[2], ids[1], ids[0]] == [one.drawing_id for one in second.drawings]
    assert second.next_page_token is None
    assert 7 == first.total == second.total
    assert third.drawings


@pytest.mark.parametrize("token", ["", "7", "ü", "' OR 1", "AAAA", "-1"])
def test_foreign_tokens_are_refused(catalogue: Catalogue, token: str) -> None:
    """A made-up token would silently start somewhere."""
    with pytest.raises(InvalidParameterError, match="page_token"):
        catalogue.page(page_token=token)


def test_a_token_of_another_index_is_refused(catalogue: Catalogue) -> None:
    """A client that mixes up tenants would get a page that means nothing."""
    other = opened(None)
    for n in range(2):
        other.add(file(n), sheets())
    token = other.page(limit=1).next_page_token
    other.close()

    with pytest.raises(InvalidParameterError, match="page_token"):
        catalogue.page(page_token=token)


@pytest.mark.parametrize("limit", [0, 501, -1, True])
def test_a_page_is_of_1_to_500(catalogue: Catalogue, limit: int) -> None:
    """One request could ask for the whole index at once."""
    with pytest.raises(InvalidParameterError, match="limit"):
        catalogue.page(limit=limit)


def test_names_no_text_could_hold_are_stored(catalogue: Catalogue) -> None:
    """A file name with bytes that are no UTF-8, or a NUL, would stop the indexing of a folder."""
    odd = "/plans/\udcff\x00'\n.png"
    catalogue.add(file(source=odd, file_name=odd, mtime_ns=1), sheets())

    assert catalogue.known(odd) is not None
    _, added = catalogue.add(file(source=odd, file_name=odd), sheets())
    assert not added


def test_metadata_have_a_limit(catalogue: Catalogue) -> None:
    """One client could fill the disk with metadata that nobody pages."""
    with pytest.raises(InvalidParameterError, match="65,536"):
        catalogue.add(file(metadata={"k": "v" * 70_000}), sheets())
    assert catalogue.counts().drawings == 0


def test_changes_are_told_in_order(catalogue: Catalogue) -> None:
    """Other processes would search what is gone, or not what was added or remade."""
    first, _ = catalogue.add(file(1), sheets())
    second, _ = catalogue.add(file(2), sheets())
    key, other = catalogue.key_of(first[0]), catalogue.key_of(second[0])
    seen = catalogue.head()
    assert [key, other] == [row.key for row in catalogue.fingerprints_since(0, limit=10)]
    assert [key] == [row.key for row in catalogue.fingerprints_since(0, limit=1)]

    catalogue.remove(first[0])
    catalogue.replace_fingerprints({other: b"better", key: b"gone"})

    assert (catalogue.head(), (key,)) == catalogue.removed_since(seen)
    (row,) = catalogue.fingerprints_since(seen, limit=10)
    assert (other, VERSION, b"better") == (row.key, row.version, row.data)


def test_forgotten_removals_are_admitted(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of removals would grow for ever, or a process that slept would keep removed drawings."""
    monkeypatch.setattr(rows, "KEPT_REMOVALS", 10)
    for n in range(12):
        (one,), _ = catalogue.add(file(n), sheets())
        catalogue.remove(one)

    assert catalogue.removed_since(0)[1] is None
    assert len(catalogue.removed_since(catalogue.head() - 10)[1] or ()) == 5
    with catalogue._database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM removals").fetchone()[0] <= 6


def test_counts_tell_old_fingerprints(catalogue: Catalogue) -> None:
    """After an upgrade nobody would be told that drawings are not found until a rebuild."""
    ids, _ = catalogue.add(file(1), sheets(2, version=VERSION - 1))
    catalogue.add(file(2), sheets())
    assert catalogue.counts() == (3, 2)

    catalogue.replace_fingerprints({catalogue.key_of(ids[0]): b"new"})
    assert catalogue.counts() == (3, 1)
    catalogue.remove(ids[1])
    assert catalogue.counts() == (2, 0)


def test_an_index_of_a_newer_version_is_refused(path: Path) -> None:
    """An old program would damage an index that a newer one wrote."""
    opened(path).close()
    with sqlite3.connect(path) as plain:
        plain.execute(f"PRAGMA user_version = {rows.SCHEMA_VERSION + 1}")
    plain.close()

    with pytest.raises(IndexVersionError, match="upgrade dedup2d"):
        opened(path)


def test_an_index_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    """After an upgrade the drawings indexed before would be lost, or could not be searched or added to."""
    made = opened(path)
    (old,), _ = made.add(file(1), [evolve(sheets()[0], mm_per_pixel=0.2, shapes=b"shapes")])
    made.close()
    with sqlite3.connect(path) as plain:
        plain.execute("ALTER TABLE drawings DROP COLUMN mm_per_pixel")
        plain.execute("DROP TABLE shapes")
        plain.execute("DROP TABLE vectors")
        plain.execute("PRAGMA user_version = 1")
    plain.close()

    made = opened(path)
    (new,), _ = made.add(file(2), [evolve(sheets()[0], mm_per_pixel=0.5, shapes=b"lines")])

    assert [made.drawing(one).mm_per_pixel for one in (old, new)] == [None, 0.5]
    stored = made.sheets([made.key_of(old), made.key_of(new)])
    assert [one.shapes for one in stored] == [b"", b"lines"]
    assert stored[0].ink == b"ink"
    made.close()
    opened(path).close()  # the second time there is nothing left to do


def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    """An index that is half of one version and half of the next could never be opened again."""
    opened(path).close()
    with sqlite3.connect(path) as plain:
        plain.execute("ALTER TABLE drawings DROP COLUMN mm_per_pixel")
        plain.execute("PRAGMA user_version = 1")
    plain.close()

    with pytest.raises(InternalError, match="already exists"):  # the table of shapes
        opened(path)
    plain = sqlite3.connect(path)
    assert plain.execute("PRAGMA user_version").fetchone() == (1,)
    assert not any(row[1] == "mm_per_pixel" for row in plain.execute("PRAGMA table_info(drawings)"))
    plain.close()


def test_shapes_and_size_are_kept_with_the_sheet_and_go_with_it(catalogue: Catalogue) -> None:
    """Drawings would be compared with the lines of others, or differences given in wrong millimetres."""
    plain, vector = sheets(2)
    ids, _ = catalogue.add(file(), [plain, evolve(vector, mm_per_pixel=0.21, shapes=b"lines")])
    keys = [catalogue.key_of(one) for one in ids]

    assert [one.likeness.shapes for one in catalogue.sheets(keys)] == [b"", b"lines"]
    assert [one.likeness.mm_per_pixel for one in catalogue.sheets(keys)] == [None, 0.21]
    catalogue.remove(ids[1])
    with catalogue._database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM shapes").fetchone() == (0,)


def test_a_foreign_or_damaged_file_is_refused(path: Path) -> None:
    """A foreign database would be written to, or an error with a stack shown."""
    with sqlite3.connect(path) as plain:
        plain.execute("CREATE TABLE t(x)")
        plain.execute("PRAGMA user_version = 1")
    plain.close()
    with pytest.raises(InternalError, match="not written by dedup2d"):
        opened(path)

    path.write_bytes(b"no database at all, but long enough to be taken for one" * 50)
    with pytest.raises(InternalError, match="damaged"):
        opened(path)


def test_a_lock_that_stays_is_a_passing_error(path: Path) -> None:
    """A writer that hangs would block others for ever, or fail jobs that could be done later."""
    made = opened(path, busy_seconds=0.05)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(VisionUnavailableError, match="locked"):
        made.add(file(), sheets())
    assert made.counts().drawings == 0

    blocker.close()
    assert made.add(file(), sheets())[1]
    made.close()


def test_an_error_in_the_middle_leaves_nothing(catalogue: Catalogue) -> None:
    """A file would be in the index with some of its sheets."""
    bad = [*sheets(3), evolve(sheets()[0], page=2)]
    with pytest.raises(InternalError):
        catalogue.add(file(), bad)

    assert catalogue.counts().drawings == 0
    assert catalogue.removed_since(0) == (0, ())
    assert catalogue.add(file(), sheets(3))[1]


def test_many_threads_and_openers_at_once(path: Path) -> None:
    """Two that create, open or fill the index at the same moment would lose drawings or fail."""
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def work(number: int) -> None:
        try:
            start.wait()
            made = opened(path)
            for n in range(10):
                made.add(file(number * 100 + n), sheets())
                made.add(file(n), sheets())
                made.page()
            made.close()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    made = opened(path)
    assert made.counts().drawings == 70
    assert len(made.fingerprints_since(0, limit=1000)) == 70
    made.close()


def test_every_statement_uses_an_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search or an added drawing would take longer the larger the index is."""
    statements: set[str] = set()
    connect = Database._connect

    def traced(self: Database) -> sqlite3.Connection:
        connection = connect(self)
        connection.set_trace_callback(statements.add)
        return connection

    monkeypatch.setattr(Database, "_connect", traced)
    made = opened(path)
    ids, _ = made.add(file(1, source="/a"), sheets(2))
    made.add(file(1, source="/a", mtime_ns=4), sheets(2))
    made.add(file(2, source="/a"), sheets(2))
    ids, _ = made.add(file(3), sheets(2))
    key = made.key_of(ids[0])
    made.known("/a")
    made.of_source("/a")
    made.drawing(ids[0])
    made.picture(ids[0])
    made.page(limit=1, page_token=made.page(limit=1).next_page_token)
    made.drawings([key])
    made.pictures([key])
    made.sheets([key])
    made.same_bytes(file(3).file_hash, limit=3)
    made.keys_after(0, limit=2)
    made.fingerprints_since(0, limit=2)
    made.removed_since(0)
    made.replace_fingerprints({key: b"x"})
    made.remove(ids[0])
    made.counts()
    made.close()

    plain = sqlite3.connect(path)
    asked = [one for one in statements if one.split()[0] in {"SELECT", "UPDATE", "DELETE", "INSERT"}]
    assert len(asked) > 25
    for statement in asked:
        for *_, detail in plain.execute(f"EXPLAIN QUERY PLAN {statement}"):
            grows = any(
                f"SCAN {table}" in f"{detail} "
                for table in ("d ", "f ", "p ", "drawings ", "files ", "removals ")
            )
            assert not grows, (statement, detail)
    plain.close()
