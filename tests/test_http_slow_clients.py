"""A service that is held by clients who never finish, while honest ones send all they have."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from attrs import define, field

from dedup2d_http.routing import PREFIX
from tests.drawings import small_png
from tests.http_support import KEY, OTHER_KEY
from tests.serving import Served, serving

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]

ROOT = Path(__file__).parent.parent
MEMORY_LIMIT = 600_000_000


@define
class Watch:
    """How long `/livez` took on connections of its own, and how much memory the service held."""

    served: Served
    seconds: list[float] = field(factory=list)
    memory: list[int] = field(factory=list)
    _ended: threading.Event = field(factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            begin = time.monotonic()
            alive = httpx.get(f"{self.served.url}/livez", timeout=20, trust_env=False).status_code == 200
            self.seconds.append(time.monotonic() - begin if alive else 1e9)
            self.memory.append(sum(resident(pid) for pid in family(self.served.process.pid)))


def family(pid: int) -> list[int]:
    """Return *pid* and all processes under it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]


def resident(pid: int) -> int:
    """Return the bytes that the process holds for itself: libraries are shared."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024


@contextmanager
def clients(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.slow_clients", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_hundred_slow_clients_and_fifty_large_uploads(tmp_path: Path) -> None:
    """If this fails, slow clients stop the service for others, or uploads fill its memory."""
    keys = {"DEDUP2D_API_KEYS": f"honest:{KEY},slow:{OTHER_KEY}"}
    with (
        serving(tmp_path / "data", keys) as served,
        served.client(KEY) as client,
        served.client(OTHER_KEY) as other,
    ):
        drawing = {"file": ("a.png", small_png())}
        client.post(f"{PREFIX}/index/add", files=drawing)
        added = other.post(f"{PREFIX}/index/add", files=drawing).json()
        path = f"{PREFIX}/index/drawings/{added['drawing_id']}/image"
        watch = Watch(served)
        with watch.watching(), clients("hold", served.port, OTHER_KEY, 50, path) as slow:
            assert slow.stdout
            assert slow.stdout.readline() == "holding\n"
            with clients("upload", served.port, KEY, 50, 50_000_000) as honest:
                found = client.post(f"{PREFIX}/search", files=drawing)
                answers, _ = honest.communicate()
            total = client.get(f"{PREFIX}/jobs").json()["total"]
            assert slow.poll() is None

    assert answers.splitlines() == ["HTTP/1.1 202 Accepted"] * 50
    assert total == 50
    assert found.json()["duplicates"][0]["similarity"] == 1
    assert len(watch.seconds) > 20
    waited = sorted(watch.seconds)
    assert waited[len(waited) * 9 // 10] < 1
    assert waited[-1] < 10  # one may wait for the machine: other tests run beside
    assert max(watch.memory) < MEMORY_LIMIT
