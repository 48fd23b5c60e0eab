"""The supervisor of several processes: who dies is replaced, and a signal ends all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from dedup2d.errors import InvalidParameterError
from dedup2d.supervise import Restarts, send_signal, supervise

SUPERVISOR = """
import logging, sys
from dedup2d.supervise import Restarts, supervise
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
processes, grace, script, directory = sys.argv[1:]
restarts = Restarts(first_seconds=0.05, longest_seconds=0.2)
def command(number):
    return [sys.executable, script, directory, str(number)]
sys.exit(supervise(command, processes=int(processes), grace_seconds=float(grace), restarts=restarts))
"""

OBEDIENT = """
import os, pathlib, signal, sys, time
directory, number = pathlib.Path(sys.argv[1]), sys.argv[2]
def end(*_):
    (directory / f"ended-{number}").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
with open(directory / "started", "a") as file:
    file.write(f"{os.getpid()} {number}\\n")
while True:
    time.sleep(60)
"""

DEAF = """
import os, pathlib, signal, sys, time
directory, number = pathlib.Path(sys.argv[1]), sys.argv[2]
def note(*_):
    with open(directory / "heard", "a") as file:
        file.write("x")
signal.signal(signal.SIGTERM, note)
with open(directory / "started", "a") as file:
    file.write(f"{os.getpid()} {number}\\n")
while True:
    time.sleep(60)
"""

UNHANDLED = """
import os, pathlib, sys, time
with open(pathlib.Path(sys.argv[1]) / "started", "a") as file:
    file.write(f"{os.getpid()} {sys.argv[2]}\\n")
time.sleep(60)
"""


class Supervised:
    """A supervisor in a process of its own, and what its copies have noted."""

    def __init__(self, directory: Path, script: str, *, processes: int, grace: float) -> None:
        self.directory = directory
        (directory / "copy.py").write_text(textwrap.dedent(script))
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", SUPERVISOR, str(processes), str(grace)),
                    *(str(directory / "copy.py"), str(directory)),
                ],
                stderr=log,
            )

    def started(self) -> list[tuple[int, int]]:
        """Return process id and number of every copy that was ever started."""
        try:
            lines = (self.directory / "started").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(pid), int(number)) for pid, number in map(str.split, lines)]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ends(self, seconds: float) -> int:
        return self.process.wait(seconds)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has asked for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def gone(made: Supervised) -> bool:
    return not any(alive(pid) for pid, _ in made.started())


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    made: list[Supervised] = []

    def make(script: str, *, processes: int = 2, grace: float = 20) -> Supervised:
        made.append(Supervised(tmp_path, script, processes=processes, grace=grace))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        eventually(partial(gone, one))


Make = Callable[..., Supervised]


def test_a_copy_that_dies_is_replaced_and_the_others_go_on(supervised: Make) -> None:
    """If this fails, each crash of a worker makes the service slower until nobody is left."""
    made = supervised(OBEDIENT, processes=2)
    eventually(lambda: len(made.started()) == 2)
    (victim, number), (other, _) = made.started()
    os.kill(victim, signal.SIGKILL)

    eventually(lambda: len(made.started()) == 3)
    assert made.started()[2][1] == number, "the new copy has the number of the one that died"
    assert alive(other)
    made.signal()
    assert made.ends(10) == 0
    assert "is started again" in made.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_copies_in_their_own_way(supervised: Make, number: int) -> None:
    """If this fails, a deploy kills workers in mid-job, or leaves some running."""
    made = supervised(OBEDIENT, processes=3)
    eventually(lambda: len(made.started()) == 3)

    made.signal(number)
    assert made.ends(10) == 0
    assert all((made.directory / f"ended-{n}").exists() for n in range(3))
    assert gone(made)


def test_copies_without_a_handler_end_by_the_signal_and_that_is_well(supervised: Make) -> None:
    """If this fails, a stop in the moment of the start looks like a crash to who watches the exit code."""
    made = supervised(UNHANDLED)
    eventually(lambda: len(made.started()) == 2)

    made.signal()
    assert made.ends(10) == 0


def test_who_does_not_end_within_the_grace_is_killed(supervised: Make) -> None:
    """If this fails, one copy that hangs makes a stop last until the orchestrator kills everything."""
    made = supervised(DEAF, processes=1, grace=0.5)
    eventually(lambda: len(made.started()) == 1)

    made.signal()
    assert made.ends(10) == 128 + signal.SIGKILL
    assert (made.directory / "heard").read_text() == "x", "it was asked before it was killed"


def test_a_second_signal_is_passed_on_and_then_ends_what_is_left(supervised: Make) -> None:
    """If this fails, an operator who is in a hurry has to wait for the whole grace."""
    made = supervised(DEAF, processes=2, grace=600)
    eventually(lambda: len(made.started()) == 2)
    heard = made.directory / "heard"

    made.signal()
    eventually(lambda: heard.exists() and len(heard.read_text()) == 2)
    made.signal()
    eventually(lambda: len(heard.read_text()) == 4)
    assert made.ends(10) == 128 + signal.SIGKILL


def test_a_third_signal_ends_at_once(supervised: Make) -> None:
    """If this fails, nothing but kill -9 of every process helps against copies that hang."""
    made = supervised(DEAF, processes=1, grace=600)
    eventually(lambda: len(made.started()) == 1)
    heard = made.directory / "heard"
    for count in (1, 2):
        made.signal()
        eventually(lambda count=count: heard.exists() and len(heard.read_text()) == count)  # type: ignore[misc]  # mypy knows no defaults of lambdas

    began = time.monotonic()
    made.signal()
    assert made.ends(10) == 128 + signal.SIGKILL
    assert time.monotonic() - began < 2


def test_copies_die_with_a_supervisor_that_is_killed(supervised: Make) -> None:
    """If this fails, kill -9 leaves workers behind that nobody stops, beside those of the next start."""
    made = supervised(DEAF)
    eventually(lambda: len(made.started()) == 2)

    made.process.kill()
    made.process.wait()
    eventually(partial(gone, made))


def test_what_cannot_start_ends_with_its_own_code(supervised: Make) -> None:
    """If this fails, a wrong setting makes a loop of starts instead of a message and an exit code."""
    made = supervised("import sys; sys.exit(2)", processes=2, grace=5)

    assert made.ends(15) == 2
    assert "no process can start" in made.log.read_text()


def test_a_command_that_is_not_there_ends_as_in_a_shell() -> None:
    """If this fails, a typing error in a command makes a loop instead of code 127, or ends are not told."""
    ended: list[int] = []

    code = supervise(
        ["no-such-command-anywhere"],
        processes=1,
        grace_seconds=1,
        restarts=Restarts(first_seconds=0.01, longest_seconds=0.02),
        ended=ended.append,
    )

    assert code == 127
    assert ended == [0, 0, 0]


def test_a_crash_is_no_wrong_setting(supervised: Make) -> None:
    """If this fails, a copy that crashes a few times ends the whole service."""
    script = """
import pathlib, sys
with open(pathlib.Path(sys.argv[1]) / "tries", "a") as file:
    file.write("x")
sys.exit(1)
"""
    made = supervised(script, processes=1)

    tries = made.directory / "tries"

    eventually(lambda: tries.exists() and len(tries.read_text()) >= 6)
    assert made.process.poll() is None
    made.signal()
    assert made.ends(10) in (0, 1)


@pytest.mark.anyio
async def test_a_signal_while_a_copy_ends_does_not_change_its_exit_code() -> None:
    """If this fails, a service whose copies ended well says 255 now and then."""
    codes = set()
    for _ in range(10):  # each of which may happen to end between two signals
        process = await anyio.open_process([sys.executable, "-S", "-c", "raise SystemExit(3)"])
        while process.returncode is None:
            send_signal(process, signal.SIGCONT)
            await anyio.lowlevel.checkpoint()
        codes.add(process.returncode)
        await process.aclose()

    assert codes == {3}


def test_pauses_grow_to_a_bound() -> None:
    """If this fails, a copy that cannot live is started in a loop that eats a core, or almost never."""
    restarts = Restarts(first_seconds=0.5, longest_seconds=30)

    assert [restarts.pause(n) for n in (1, 2, 3, 7, 10_000)] == [0.5, 1, 2, 30, 30]


def test_no_processes_are_refused() -> None:
    """If this fails, a supervisor of nothing runs forever."""
    with pytest.raises(InvalidParameterError, match="processes"):
        supervise(["true"], processes=0, grace_seconds=1)
