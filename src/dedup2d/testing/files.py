"""The contract of `FileStore` as checks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from itertools import pairwise

import anyio

from dedup2d.errors import FileNotStoredError, InvalidParameterError
from dedup2d.protocols import FileStore, LocalFiles
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import checking, expect, expect_same, refused, together
from dedup2d.types import StoredFile

__all__ = ["FILE_STORE_CHECKS", "FileStoreMaker", "check_file_store"]

FileStoreMaker = Callable[[Callable[[], float]], AbstractAsyncContextManager[FileStore]]
"""Makes an empty FileStore, which may read the time from the given clock, or have its own."""

_MIB = 1024 * 1024

_KEYS = (
    "a",
    "a/b",
    "a/b/c",
    "a-b",
    "a.b",
    "a.b/c",
    "a0",
    "A",
    "-",
    "_",
    "a..b",
    "a.",
    "1/2/3/4/5/6/7/8",
    "x" * 200,
    "/".join(["y" * 200, "y" * 200, "y" * 110]),
)
"""All different, among them such as are a file to the one and a folder to the other."""

_NO_KEYS = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/..",
    ".a",
    "a/.b",
    "a\x00",
    "a\n",
    "a\nb",
    "a\\b",
    "..\\a",
    "a b",
    "a:b",
    "a+",
    "a%2fb",
    "\u00e4",
    "a\u2044b",
    "~",
    "*",
    "/etc/passwd",
    "C:/a",
    "1/2/3/4/5/6/7/8/9",
    "x" * 201,
    "/".join(["y" * 200, "y" * 200, "y" * 111]),
)


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _put(store: FileStore, key: str, data: bytes = b"data") -> StoredFile:
    return await store.put(key, _chunks(data))


async def _read(store: FileStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.open(key)])


async def _keys(store: FileStore, **wanted: object) -> list[str]:
    return [stored.key for stored in await store.list(**wanted)]  # type: ignore[arg-type]  # any of its keywords


async def gives_back_what_was_put(store: FileStore) -> None:
    data = bytes(range(256)) * 4096 * 3 + b"end"
    for chunks in (
        [data],
        [data[:7], b"", data[7:-1], data[-1:]],
        [data[n : n + 65536] for n in range(0, len(data), 65536)],
    ):
        stored = await store.put("folder/file.bin", _chunks(*chunks))
        found = (stored.key, stored.size, stored.sha256)
        expect_same(found, ("folder/file.bin", len(data), sha256(data).hexdigest()), "what put returns")
        given = [chunk async for chunk in store.open("folder/file.bin")]
        expect(b"".join(given) == data, "the bytes come back as they were put")
        expect(all(0 < len(chunk) <= _MIB for chunk in given), "in chunks of at most 1 MiB, none empty")


async def keeps_a_file_of_no_bytes(store: FileStore) -> None:
    for number, chunks in enumerate(((), (b"",))):
        stored = await store.put(f"empty-{number}", _chunks(*chunks))
        expect_same((stored.size, stored.sha256), (0, sha256().hexdigest()), "a file of no bytes")
        given = [chunk async for chunk in store.open(f"empty-{number}")]
        expect_same(given, [], "is given as no chunk")


async def replaces_what_was_there(store: FileStore) -> None:
    await _put(store, "a/b", b"a long first text")
    await _put(store, "a/b", b"second")
    expect_same(await _read(store, "a/b"), b"second", "the last put counts")
    expect_same([(f.key, f.size) for f in await store.list()], [("a/b", 6)], "the file is there once")


async def tells_all_keys_apart(store: FileStore) -> None:
    for key in _KEYS:
        await _put(store, key, key.encode())
    for key in _KEYS:
        expect_same(await _read(store, key), key.encode(), f"the file of {key[:20]!r}")
    expect_same(await _keys(store), sorted(_KEYS), "all are listed, in the order of their keys")
    for key in _KEYS:
        expect_same(await store.delete(key), True, f"{key[:20]!r} is deleted")
    expect_same(await store.list(), [], "then none is left")


async def refuses_what_is_no_key(store: FileStore) -> None:
    await _put(store, "a")
    for key in _NO_KEYS:
        with refused(InvalidParameterError, f"put to {key[:20]!r}"):
            await _put(store, key)
        with refused(InvalidParameterError, f"delete of {key[:20]!r}"):
            await store.delete(key)
        with refused(InvalidParameterError, f"open of {key[:20]!r}"):
            await anext(store.open(key))
        if isinstance(store, LocalFiles):
            with refused(InvalidParameterError, f"local path of {key[:20]!r}"):
                store.local_path(key)
    expect_same(await _keys(store), ["a"], "nothing was stored or deleted")


async def knows_what_is_not_stored(store: FileStore) -> None:
    await _put(store, "a/b")
    for key in ("b", "a", "a/b/c", "a/c", "A/b"):
        with refused(FileNotStoredError, f"{key} is not stored"):
            await anext(store.open(key))
        expect_same(await store.delete(key), False, f"{key} was not there to delete")
    expect_same(await store.delete("a/b"), True, "the file was there")
    expect_same(await store.delete("a/b"), False, "once")
    with refused(FileNotStoredError, "a deleted file is gone"):
        await anext(store.open("a/b"))
    await _put(store, "a/b", b"again")
    expect_same(await _read(store, "a/b"), b"again", "the key can be used again")


async def puts_all_or_nothing(store: FileStore) -> None:
    class BrokenOffError(Exception):
        pass

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"x" * (3 * _MIB)
        raise BrokenOffError

    await _put(store, "old", b"before")
    for key in ("old", "new"):
        with refused(BrokenOffError, "put raises what the chunks raise"):
            await store.put(key, breaks_off())
    expect_same(await _read(store, "old"), b"before", "a put that breaks off leaves what was there")
    expect_same(await _keys(store), ["old"], "and stores nothing new")


async def shows_no_half_of_a_file(store: FileStore) -> None:
    underway, go_on = anyio.Event(), anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * (3 * _MIB)
        underway.set()
        await go_on.wait()
        yield b"end"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.put, "new", slow())
        await underway.wait()
        expect_same(await _keys(store), [], "a file that is being put is not listed")
        with refused(FileNotStoredError, "nor can it be opened"):
            await anext(store.open("new"))
        go_on.set()
    expect_same((await store.list())[0].size, 3 * _MIB + 3, "when it is put it is there as a whole")


async def a_cancelled_put_leaves_nothing(store: FileStore) -> None:
    await _put(store, "old", b"before")

    async def endless(started: anyio.Event) -> AsyncIterator[bytes]:
        yield b"x" * (2 * _MIB)
        started.set()
        await anyio.sleep_forever()

    for key in ("old", "new"):
        started = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.put, key, endless(started))
            await started.wait()
            tasks.cancel_scope.cancel()
    expect_same(await _keys(store), ["old"], "a cancelled put stores nothing new")
    expect_same(await _read(store, "old"), b"before", "and leaves what was there")


async def racing_puts_leave_one_whole_file(store: FileStore) -> None:
    bodies = [bytes([n]) * (300_000 + n) for n in range(10)]
    await together([lambda b=b: _put(store, "key", b) for b in bodies])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect(await _read(store, "key") in bodies, "of 10 puts at once one stays, whole")
    expect_same(len(await store.list()), 1, "it is there once")


async def puts_and_deletes_do_not_disturb_each_other(store: FileStore) -> None:
    async def come_and_go(number: int) -> bool:
        for _ in range(20):
            await _put(store, f"folder/sub/{number}")
            if not await store.delete(f"folder/sub/{number}"):
                return False
        await _put(store, f"folder/sub/{number}")
        return True

    outcomes = await together([lambda n=n: come_and_go(n) for n in range(5)])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect_same(outcomes, [True] * 5, "puts and deletes side by side in one folder")
    expect_same(await _keys(store), [f"folder/sub/{n}" for n in range(5)], "what was put last is there")


async def a_reader_gets_one_file_or_the_other(store: FileStore) -> None:
    old, new = b"o" * (4 * _MIB), b"n" * (2 * _MIB)
    await _put(store, "key", old)
    reader = store.open("key")
    first = await anext(reader)
    await _put(store, "key", new)
    read = first + b"".join([chunk async for chunk in reader])
    expect(read in (old, new), "a file replaced while it is read is given as it was, or as it is")


async def a_reader_may_stop_early(store: FileStore) -> None:
    await _put(store, "key", b"x" * (3 * _MIB))
    for _ in range(50):
        reader = store.open("key")
        await anext(reader)
        await reader.aclose()  # type: ignore[attr-defined]  # generators have aclose
    expect_same(await store.delete("key"), True, "the file can be deleted afterwards")


async def lists_in_portions(store: FileStore) -> None:
    wanted = sorted([f"{a}/{b}{c}" for a in "abc" for b in "xy" for c in ("", "/1", "-2", ".3", "/4/5")])
    for key in wanted:
        await _put(store, key)
    for limit in (1, 4, 30, 1000):
        found: list[str] = []
        while page := await _keys(store, limit=limit, after=found[-1] if found else ""):
            expect(len(page) <= limit, f"no page has more than {limit} files")
            expect(page[0] > (found[-1] if found else ""), "a page begins after the key given")
            found += page
        expect_same(found, wanted, f"the pages of {limit} together are all files in order, once")
    for before, after in pairwise(wanted):
        expect_same(await _keys(store, after=before, limit=1), [after], f"the file after {before}")
    expect_same(await _keys(store, after=wanted[-1]), [], "nothing comes after the last")
    expect_same(
        await _keys(store, after="b"), [key for key in wanted if key > "b"], "after a key that is not there"
    )


async def lists_by_prefix(store: FileStore) -> None:
    wanted = ["a", "a/b", "a/bc", "a/b/d", "ab/c", "b/a"]
    for key in wanted:
        await _put(store, key)
    for prefix in ("", "a", "a/", "a/b", "a/b/", "ab", "b/a", "c", "A", "/", "..", "a/b/d/e"):
        fitting = sorted(key for key in wanted if key.startswith(prefix))
        expect_same(await _keys(store, prefix=prefix), fitting, f"the files that begin with {prefix!r}")
    expect_same(await _keys(store, prefix="a/", after="a/b", limit=1), ["a/b/d"], "prefix, after and limit")


async def lists_by_age(store: FileStore) -> None:
    began = anyio.current_time()
    put = await _put(store, "a/b")
    took = anyio.current_time() - began  # a server may give the time at which it began to write
    [listed] = await store.list()
    apart = abs(listed.created_at - put.created_at)
    expect(apart <= 1 + took, "put and list give the same time, to the second and the time that put takes")
    expect_same((listed.key, listed.size), ("a/b", 4), "a listed file")
    expect_same(await _keys(store, older_than=listed.created_at), [], "not older than itself")
    expect_same(await _keys(store, older_than=listed.created_at + 2), ["a/b"], "older than what comes after")
    expect_same(await _keys(store, older_than=listed.created_at - 1000), [], "not older than what was before")


async def keeps_many_files_at_once(store: FileStore) -> None:
    bodies = {f"folder-{n % 7}/file-{n}": bytes([n]) * n for n in range(100)}
    outcomes = await together([lambda k=k, b=b: _put(store, k, b) for k, b in bodies.items()])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect(all(isinstance(each, StoredFile) for each in outcomes), "100 puts at once")
    found = await together([lambda k=k: _read(store, k) for k in bodies])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect(found == list(bodies.values()), "100 reads at once")


FILE_STORE_CHECKS: tuple[Callable[[FileStore], Awaitable[None]], ...] = (
    gives_back_what_was_put,
    keeps_a_file_of_no_bytes,
    replaces_what_was_there,
    tells_all_keys_apart,
    refuses_what_is_no_key,
    knows_what_is_not_stored,
    puts_all_or_nothing,
    shows_no_half_of_a_file,
    a_cancelled_put_leaves_nothing,
    racing_puts_leave_one_whole_file,
    puts_and_deletes_do_not_disturb_each_other,
    a_reader_gets_one_file_or_the_other,
    a_reader_may_stop_early,
    lists_in_portions,
    lists_by_prefix,
    lists_by_age,
    keeps_many_files_at_once,
)
"""Every check by itself: called with an empty store."""


async def check_file_store(make: FileStoreMaker, *, seconds: float = 60.0) -> None:
    """
    Assert that the stores of *make* keep the contract of `FileStore`.

    Args:
        make: gives an async context manager of an empty store.
        seconds: how long one check may take.

    Raises:
        ContractError: they do not, or a check took too long; the error names the check.
    """
    for check in FILE_STORE_CHECKS:
        with checking(check, seconds):
            async with make(ManualClock()) as store:
                await check(store)
