"""No reader opens, fetches, resolves or starts anything that a drawing names."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.outside_references import Canaries, drawings

_IN_OPEN, _IN_ACCESS = 0x20, 0x01
READING = """
import json, sys
from pathlib import Path
from dedup2d.errors import Dedup2DError
from dedup2d.readers import ReadLimits, read

WATCHED = ("open", "os.listdir", "os.scandir", "os.exec", "os.posix_spawn", "os.system", "socket.",
           "subprocess.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.", "ctypes.dlopen")
told, current = [], None

def hear(event, arguments):
    if current and event.startswith(WATCHED):
        told.append((current, event, str(arguments[0])))

sys.addaudithook(hear)
def outcome(path):
    try:
        read(path, path.name, ReadLimits(raster_side=100))
    except Dedup2DError as error:
        return type(error).__name__ + ": " + str(error)
    return "read"

paths = sorted(Path(sys.argv[1]).iterdir())
for path in paths:
    outcome(path)  # the first time, libraries load themselves and the fonts of the system
outcomes = {}
for path in paths:
    current = path.name
    outcomes[path.name] = outcome(path)
    current = None
print(json.dumps([told, outcomes]))
"""


@contextmanager
def server_nobody_should_ask() -> Iterator[tuple[str, list[str]]]:
    """Listen on one port of 127.0.0.1, over TCP and UDP, and note who comes."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(tcp.getsockname())

        def accept() -> None:
            while True:
                connection, _ = tcp.accept()
                with connection:
                    asked = connection.recv(100)
                    if asked == b"stop":
                        return
                    came.append(asked.decode("latin-1"))

        thread = threading.Thread(target=accept)
        thread.start()
        host = f"127.0.0.1:{tcp.getsockname()[1]}"
        try:
            yield host, came
        finally:
            with socket.create_connection(tcp.getsockname()) as last:
                last.sendall(b"stop")
            thread.join()
            udp.setblocking(False)
            with suppress(BlockingIOError):
                came.append(repr(udp.recv(100)))


class Watch:
    """Tells who opened or read a file, native libraries included (inotify(7))."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0
        assert libc.inotify_add_watch(self._fd, bytes(path), _IN_OPEN | _IN_ACCESS) >= 0

    def touched(self) -> int:
        """Return how often since the last call."""
        try:
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return 0
        return len(events) // struct.calcsize("iIII")

    def close(self) -> None:
        os.close(self._fd)


def read_all(directory: Path) -> tuple[list[list[str]], dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", READING, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    told, outcomes = json.loads(done.stdout)
    return told, outcomes


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.png"
    Image.new("L", (400, 300), "black").save(path)
    return path


def test_the_watch_sees_native_libraries_too(secret: Path) -> None:
    """If this fails, the test below cannot fail: it would not see a picture that is opened."""
    import cv2  # noqa: PLC0415 - runs in a child

    watch = Watch(secret)
    assert watch.touched() == 0
    assert cv2.imread(str(secret)) is not None
    assert watch.touched() > 0
    watch.close()


def test_drawings_reach_nothing_outside_of_themselves(secret: Path, tmp_path: Path) -> None:
    """If this fails, an uploaded drawing reads files of the server, or calls addresses its sender chose."""
    directory = tmp_path / "drawings"
    directory.mkdir()
    with server_nobody_should_ask() as (host, came):
        for number, (name, data) in enumerate(drawings(Canaries(str(secret), host))):
            (directory / f"{number:03d}_{name}").write_bytes(data)
        watch = Watch(secret)
        told, outcomes = read_all(directory)
        touched = watch.touched()
        watch.close()

    assert touched == 0
    assert came == []
    assert [one for one in told if not _harmless(one, directory)] == []
    assert len(outcomes) > 90
    refused = {name: outcome for name, outcome in outcomes.items() if outcome != "read"}
    assert all("entities" in outcome or "damaged" in outcome for outcome in refused.values()), refused
    assert len(refused) < len(outcomes) / 4


def _harmless(event: list[str], directory: Path) -> bool:
    """Whether a reader opened the drawing itself, or memory of its own."""
    name, what, target = event
    return what == "open" and (target == str(directory / name) or target.startswith("/proc/self/fd/"))
