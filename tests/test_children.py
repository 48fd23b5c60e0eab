"""
Children: what a call gives back, and what becomes of it when the child hangs, dies or grows.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from dedup2d import errors
from dedup2d.children import Children
from dedup2d.errors import Dedup2DError, FileTooLargeError, InternalError, UnreadableDrawingError

pytestmark = pytest.mark.anyio

MIB = 1024**2


def child_id() -> int:
    return os.getpid()


def hang(marker: Path) -> None:
    marker.write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def eat_memory() -> int:
    return len(bytearray(4096 * MIB))


def fail(error: Exception) -> None:
    raise error


def noise() -> str:
    os.write(1, b"native noise on stdout\n")
    os.write(2, b"native noise on stderr\n")
    print("python noise")  # noqa: T201 - runs in a child
    return "clean"


def large(size: int) -> bytes:
    return bytes(size)


def unpicklable() -> object:
    return lambda: None


def thread_count() -> int:
    import cv2  # noqa: PLC0415 - runs in a child

    return int(cv2.getNumThreads())


def is_alive(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_for(marker: Path) -> int:
    while not (marker.exists() and marker.read_text()):  # noqa: ASYNC110 - another process writes it
        await anyio.sleep(0.01)
    return int(marker.read_text())


async def test_a_child_is_kept_for_the_next_call() -> None:
    """If this fails, every file pays for starting Python and loading the libraries anew."""
    async with Children(processes=1) as children:
        first = await children.call(child_id, seconds=30, name="a")
        second = await children.call(child_id, seconds=30, name="b")

    assert first == second != os.getpid()


async def test_an_idle_child_that_was_killed_is_replaced() -> None:
    """The next drawing would be said to crash the reader."""
    async with Children(processes=1) as children:
        first = await children.call(child_id, seconds=20, name="a.png")
        os.kill(first, signal.SIGKILL)
        while is_alive(first):
            time.sleep(0.01)  # noqa: ASYNC251 - the event loop is not to hear of the end before the next call
        assert await children.call(child_id, seconds=20, name="b.png") != first


async def test_a_child_that_was_killed_while_it_started_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a search is answered 500 when somebody ends a process at the wrong moment."""
    started: list[int] = []

    open_process = anyio.open_process

    async def killed_at_first(command: Sequence[str], **more: Any) -> Process:
        process = await open_process(command, **more)
        if not started:
            process.kill()
        started.append(process.pid)
        return process

    monkeypatch.setattr(anyio, "open_process", killed_at_first)
    async with Children(processes=1) as children:
        assert await children.call(child_id, seconds=20, name="a.png") == started[1]


async def test_over_time_the_child_is_killed_and_the_error_names_file_and_limit(tmp_path: Path) -> None:
    """If this fails, a file that makes a library hang stops a worker for good."""
    async with Children(processes=1) as children:
        with pytest.raises(UnreadableDrawingError, match=r"slow\.dxf.*1 s, the limit of seconds"):
            await children.call(hang, tmp_path / "pid", seconds=1, name="slow.dxf")

        assert not is_alive(int((tmp_path / "pid").read_text()))
        assert await children.call(large, 3, seconds=30, name="next") == bytes(3)


async def test_cancelling_kills_the_child(tmp_path: Path) -> None:
    """If this fails, cancelled searches go on burning a core."""
    marker = tmp_path / "pid"
    async with Children(processes=1) as children:
        async with anyio.create_task_group() as tasks:

            async def search() -> None:
                await children.call(hang, marker, seconds=60, name="x")

            tasks.start_soon(search)
            process = await wait_for(marker)
            tasks.cancel_scope.cancel()

        assert not is_alive(process)
        assert await children.call(large, 3, seconds=30, name="next") == bytes(3)


async def test_a_crash_is_an_error_of_that_file_only() -> None:
    """If this fails, a file that crashes a native library takes the service with it."""
    async with Children(processes=1) as children:
        with pytest.raises(UnreadableDrawingError, match=r"bad\.tif.*died \(exit code -11\)"):
            await children.call(crash, seconds=30, name="bad.tif")

        assert await children.call(large, 3, seconds=30, name="next") == bytes(3)


async def test_memory_is_limited() -> None:
    """If this fails, a bomb makes the kernel kill something else than the child."""
    async with Children(processes=1, memory_bytes=1024 * MIB) as children:
        with pytest.raises(UnreadableDrawingError, match=r"bomb\.png.*limit of 1,024 MiB"):
            await children.call(eat_memory, seconds=30, name="bomb.png")


async def test_errors_of_the_function_pass_through() -> None:
    """If this fails, callers cannot tell a file that is too large from one that is damaged."""
    async with Children(processes=1) as children:
        with pytest.raises(FileTooLargeError, match="larger than the limit of 10 bytes") as caught:
            await children.call(fail, FileTooLargeError("x.png", 10), seconds=30, name="x.png")
        with pytest.raises(KeyError):
            await children.call(fail, KeyError("no"), seconds=30, name="x.png")

    assert caught.value.limit == 10


async def test_what_libraries_print_does_not_mix_with_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """If this fails, a warning that libtiff prints breaks the protocol or fills the log."""
    async with Children(processes=1) as children:
        assert await children.call(noise, seconds=30, name="x") == "clean"

    assert capfd.readouterr() == ("", "")


async def test_large_answers_arrive_whole() -> None:
    """If this fails, the rasters of a document of many pages are cut off."""
    async with Children(processes=1) as children:
        assert await children.call(large, 60 * MIB, seconds=60, name="x") == bytes(60 * MIB)


async def test_an_answer_that_cannot_be_pickled_is_an_internal_error() -> None:
    """If this fails, a programming error looks like a bad file, or kills the child."""
    async with Children(processes=1) as children:
        with pytest.raises(InternalError, match="could not send its result"):
            await children.call(unpicklable, seconds=30, name="x")


PROGRAM = """
import anyio
from dedup2d.children import Children
from dedup2d.errors import InternalError

def three():
    return 3

async def main():
    async with Children(processes=1) as children:
        try:
            print(await children.call(three, seconds=30, name="x"))
        except InternalError as error:
            print(error)

if __name__ == "__main__":
    anyio.run(main)
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [(["-m", "program"], "3"), (["program.py"], "three is defined in the main script: move it to a module")],
)
def test_functions_of_the_main_module(command: list[str], said: str, tmp_path: Path) -> None:
    """If this fails, `python -m` programs cannot use children, or scripts fail without saying why."""
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, check=True
    )

    assert said in done.stdout


async def test_at_most_so_many_run_at_once() -> None:
    """If this fails, 50 uploads at once start 50 processes."""
    seen: set[int] = set()
    async with Children(processes=2) as children, anyio.create_task_group() as tasks:

        async def one() -> None:
            seen.add(await children.call(child_id, seconds=60, name="x"))

        for _ in range(8):
            tasks.start_soon(one)

    assert 1 <= len(seen) <= 2


async def test_opencv_uses_one_thread() -> None:
    """If this fails, each child starts a thread per core and they fight for them."""
    async with Children(processes=1) as children:
        await children.call(thread_count, seconds=30, name="x")  # loads it

        assert await children.call(thread_count, seconds=30, name="x") == 1


async def test_leaving_ends_all_children() -> None:
    """If this fails, processes pile up with every service that was closed."""
    async with Children(processes=1) as children:
        process = await children.call(child_id, seconds=30, name="x")

    assert not is_alive(process)
    with pytest.raises(InternalError, match="async with"):
        await children.call(child_id, seconds=30, name="x")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_a_busy_child_dies_with_its_parent(tmp_path: Path) -> None:
    """If this fails, kill -9 of the service leaves children behind that burn the cores."""
    marker = tmp_path / "pid"
    script = textwrap.dedent(f"""
        import anyio, pathlib
        from dedup2d.children import Children
        from tests.test_children import hang

        async def main():
            async with Children(processes=1) as children:
                await children.call(hang, pathlib.Path({str(marker)!r}), seconds=60, name="x")

        anyio.run(main)
    """)  # no `if __name__ == "__main__"`: a child must not run its parent's script again
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    with anyio.fail_after(30):
        process = await wait_for(marker)
    parent.kill()
    parent.wait()
    with anyio.fail_after(10):
        while is_alive(process):  # noqa: ASYNC110 - no child of ours to wait for
            await anyio.sleep(0.01)


KINDS = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[Dedup2DError]) -> None:
    """If this fails, an error raised in a child arrives as another error, or not at all."""
    error = kind.__new__(kind)  # whatever its constructor takes
    error.args = ("message",)
    error.__dict__.update(limit=3)
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is kind
    assert str(copy) == "message"
    assert vars(copy) == {"limit": 3}
