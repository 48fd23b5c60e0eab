"""The command as a process: pipes, terminals, signals and crashes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.cli_support import command, environment, run_process
from tests.drawings import PARTS, small_pdf

pytestmark = [pytest.mark.timeout(240), pytest.mark.once]
ESCAPE = "\x1b["
MANY = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of eight drawings."""
    made = tmp_path / "drawings"
    made.mkdir()
    for seed in range(2):
        for part in PARTS[:4]:
            (made / f"{part}{seed}.pdf").write_bytes(small_pdf(part, seed))
    return made


@pytest.fixture
def long_work(tmp_path: Path) -> Path:
    """A folder of so many drawings, no two alike, that no machine is done before a signal comes."""
    made = tmp_path / "drawings"
    made.mkdir()
    for number in range(MANY):
        (made / f"{number}.pdf").write_bytes(small_pdf(PARTS[number % 4], number))
    return made


def drawings_in(data: Path) -> list[str]:
    done = run_process(["drawings", "--all", "--json"], data)
    pages = [page for line in done.out.splitlines() for page in [json.loads(line)]]
    return [one["source"] for page in pages for one in page["drawings"]]


def test_help_and_version_need_nothing_heavy(tmp_path: Path) -> None:
    """If this fails, every completion and every `--help` waits for the imaging libraries."""
    script = (
        "import sys; from dedup2d.cli import main; code = main(sys.argv[1:]);"
        " heavy = {'cv2', 'numpy', 'ezdxf', 'PIL', 'starlette', 'dedup2d.settings'} & set(sys.modules);"
        " sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    for argument, said in (("--help", "Exit codes:"), ("--version", "dedup2d 0.")):
        done = subprocess.run(
            [sys.executable, "-c", script, argument],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def test_a_missing_extra_is_one_line_that_names_it(tmp_path: Path) -> None:
    """If this fails, whoever installed only the library gets a traceback from the command."""
    script = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == sys.argv[1]:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from dedup2d.cli import main\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    for missing, arguments, extra in (
        ("cyclopts", ["--help"], "engine"),
        ("environ", ["drawings"], "engine"),
        ("cv2", ["samples", str(tmp_path / "out")], "engine"),
        ("granian", ["serve"], "http"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, missing, *arguments],
            env=environment(tmp_path / "data"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, (missing, done.stderr)
        assert f'pip install "dedup2d[{extra}]"' in done.stderr
        assert done.stderr.count("\n") == 1


def test_output_in_a_pipe_is_plain(folder: Path, tmp_path: Path) -> None:
    """If this fails, `dedup2d ... | tool` gets colours, boxes or a progress bar."""
    data = tmp_path / "data"
    done = run_process(["index", folder, "--jobs", "2"], data, FORCE_COLOR="1")

    assert done.err == ""
    assert re.fullmatch(r"8 files \(8 drawings\): 8 added in \d+\.\d s\n", done.out)
    listing = run_process(["drawings"], data)
    assert [line.count("\t") for line in listing.out.splitlines()] == [5] * 9
    assert ESCAPE not in listing.out + listing.err


def on_terminal(arguments: list[str | Path], data: Path, **variables: str) -> tuple[int, str]:
    """Run the command on a terminal of its own; return its exit code and all that it showed."""
    master, slave = pty.openpty()
    env = environment(data, TERM="xterm-256color", COLUMNS="120", LINES="40", **variables)
    process = subprocess.Popen(command(*arguments), env=env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while select.select([master], [], [], 60)[0]:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    return process.wait(timeout=10), shown.decode(errors="replace")


def test_a_terminal_shows_progress_and_colours_unless_told_otherwise(folder: Path, tmp_path: Path) -> None:
    """If this fails, an engineer stares at a silent screen, or cannot turn colours off."""
    data = tmp_path / "data"
    code, shown = on_terminal(["index", folder, "--jobs", "2"], data)
    assert code == 0
    assert "Indexing" in shown
    assert "/8" in shown

    query = str(folder / f"{PARTS[0]}0.pdf")
    _, coloured = on_terminal(["search", query], data)
    assert re.search(r"\x1b\[[\d;]*3\d", coloured)
    _, plain = on_terminal(["search", query], data, NO_COLOR="1")
    assert "exact" in plain
    assert not re.search(r"\x1b\[[\d;]*3\d", plain)
    _, quiet = on_terminal(["index", folder, "--quiet"], data)
    assert "Indexing" not in quiet


def test_a_reader_that_goes_away_is_no_error(folder: Path, tmp_path: Path) -> None:
    """If this fails, `dedup2d drawings | head` ends in a traceback."""
    data = tmp_path / "data"
    run_process(["index", folder, "--jobs", "2"], data)
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        command("drawings"), env=environment(data), stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)

    assert done.returncode == 141
    assert done.stderr == b""


def started(arguments: list[str | Path], data: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        env=environment(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def has_drawings(data: Path, count: int) -> Callable[[], bool]:
    def check() -> bool:
        for path in data.glob("index/*/catalogue.sqlite3"):
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as database:
                return bool(database.execute("SELECT count(*) FROM drawings").fetchone()[0] >= count)
        return False

    return check


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_index_keeps_what_was_done(
    number: signal.Signals, code: int, word: str, long_work: Path, tmp_path: Path
) -> None:
    """If this fails, Ctrl-C loses an hour of work, leaves child processes, or shows a traceback."""
    data = tmp_path / "data"
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as scripts start what runs in the background
    process = started(["index", long_work, "--jobs", "1"], data)
    signal.signal(signal.SIGINT, ignored)
    wait_for(has_drawings(data, 1))
    os.killpg(process.pid, number)  # as a terminal does: the children get it too
    out, err = process.communicate(timeout=30)

    assert process.returncode == code
    assert err == f"dedup2d: {word}\n"
    assert re.match(r"\d+ files? \(", out)
    wait_for(lambda: not group_lives(process.pid))
    kept = len(drawings_in(data))
    assert kept >= 1
    done = run_process(["index", long_work, "--jobs", "2", "--json"], data)
    assert done.json["added"] == MANY - kept
    assert done.json["unchanged"] == kept


def group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_index_survives_being_killed(long_work: Path, tmp_path: Path) -> None:
    """If this fails, a power cut leaves half a drawing, a broken index, or orphans that go on."""
    data = tmp_path / "data"
    process = started(["index", long_work, "--jobs", "2"], data)
    wait_for(has_drawings(data, 1))
    process.kill()
    process.communicate(timeout=30)

    wait_for(lambda: not group_lives(process.pid))
    kept = drawings_in(data)
    assert len(kept) == len(set(kept))
    done = run_process(["index", long_work, "--jobs", "2", "--json"], data)
    assert done.code == 0
    assert done.json["added"] + done.json["unchanged"] == MANY
    assert sorted(drawings_in(data)) == sorted(str(path.resolve()) for path in long_work.iterdir())
