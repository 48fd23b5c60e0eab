"""The metrics of real processes: ports of their own, and totals over several that are killed and replaced."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import values

from dedup2d.metrics_shared import MemberMetrics, SharedMetrics, forget, shared_directory
from tests.metrics_support import samples, total, value
from tests.serving import Served, free_port, serving, vision_serving
from tests.test_vision_server import members

pytestmark = [pytest.mark.timeout(90), pytest.mark.once]

REQUESTS = "dedup2d_http_requests_total"


def until(what: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def live(served: Served) -> None:
    """Ask once, over a connection of its own: the system chooses which process answers."""
    httpx.get(f"{served.url}/livez", timeout=5, trust_env=False).raise_for_status()


def asked(text: str) -> float:
    return total(text, REQUESTS, route="/livez")


def numbers(text: str) -> set[str]:
    """Return the processes that tell of themselves."""
    return {
        dict(labels)["process"] for name, labels in samples(text) if name == "process_resident_memory_bytes"
    }


def test_totals_are_right_when_a_process_is_killed_and_replaced(tmp_path: Path) -> None:
    """If this fails, counters fall or double when one of several processes dies, and alerts with them."""
    port = free_port()
    options = ("--processes", "2", "--metrics-port", str(port))

    def metrics() -> str:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text

    (tmp_path / "tmp").mkdir()
    with vision_serving(tmp_path / "data", {"TMPDIR": str(tmp_path / "tmp")}, options=options) as served:
        until(lambda: len(members(served)) == 2)
        assert list((tmp_path / "tmp").glob("dedup2d-metrics-*/0.pid"))
        until(lambda: numbers(metrics()) == {"0", "1"})
        before = asked(metrics())
        for _ in range(40):
            live(served)
        until(lambda: asked(metrics()) == before + 40, 5)
        elsewhere = httpx.get(f"{served.url}/metrics", trust_env=False)

        first = set(members(served))
        os.kill(min(first), signal.SIGKILL)
        until(lambda: len(numbers(metrics())) == 1)
        assert asked(metrics()) == before + 40
        until(lambda: len(set(members(served)) - {min(first)}) == 2 and len(numbers(metrics())) == 2)
        assert asked(metrics()) == before + 40

        for _ in range(40):
            live(served)
        until(lambda: asked(metrics()) == before + 80, 5)
        text = metrics()
        assert served.stop() == 0

    assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, "NOT_FOUND")
    assert value(text, "dedup2d_http_requests_in_progress") == 0
    assert total(text, "dedup2d_build_info") == 1
    seconds = "dedup2d_http_request_duration_seconds"
    assert value(text, f"{seconds}_count", method="GET", route="/livez") == before + 80
    assert value(text, f"{seconds}_bucket", method="GET", route="/livez", le="+Inf") == before + 80
    assert value(text, "dedup2d_engine_indexes") == 0
    assert not list((tmp_path / "tmp").glob("dedup2d-metrics-*"))


def test_whichever_process_is_asked_tells_of_all(tmp_path: Path) -> None:
    """If this fails, each scrape shows another process: counters jump up and down."""
    with vision_serving(tmp_path / "data", options=("--processes", "2")) as served:
        until(lambda: len(members(served)) == 2)
        text = httpx.get(f"{served.url}/metrics", trust_env=False).text
        until(lambda: numbers(httpx.get(f"{served.url}/metrics", trust_env=False).text) == {"0", "1"})
        before = asked(text)
        for _ in range(20):
            live(served)
        found = {asked(httpx.get(f"{served.url}/metrics", trust_env=False).text) for _ in range(12)}

    assert before >= 1
    assert found == {before + 20}


def test_what_a_killed_supervisor_left_is_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If this fails, each crash leaves files behind until the disk is full, or a start takes from another."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "dedup2d-metrics-left"
    left.mkdir()
    (left / "lock").touch()
    (left / "counter_0.db").write_bytes(b"x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "dedup2d-metrics-link").symlink_to(elsewhere)

    with shared_directory() as mine:
        with shared_directory() as other:
            assert mine.exists()
            assert mine != other
        assert not other.exists()
        assert not left.exists()
    assert not mine.exists()
    assert (elsewhere / "lock").exists()


def test_a_process_that_starts_is_whole_or_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If this fails, a scrape while a killed process is replaced is answered 500, and alerts fire."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    others = SharedMetrics(tmp_path)
    seen: list[set[str]] = []
    opened = Path.open

    def looked_at(path: Path, *arguments: Any, **more: Any) -> Any:
        file = opened(path, *arguments, **more)
        if path.parent == tmp_path and file.writable():
            seen.append(numbers(others.render().decode()))
        return file

    monkeypatch.setattr(Path, "open", looked_at)
    MemberMetrics(tmp_path, 0)
    forget(tmp_path, 0)
    MemberMetrics(tmp_path, 0)

    assert len(seen) == 8  # six files, and the two that went with the process
    assert set().union(*seen) == set()
    assert numbers(others.render().decode()) == {"0"}


@pytest.mark.parametrize("start", [serving, vision_serving])
def test_a_port_for_the_metrics(start: Callable[..., Any], tmp_path: Path) -> None:
    """If this fails, a service or vision server shows its metrics to all its clients, or to nobody."""
    port = free_port()

    def metrics() -> str:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text

    with start(tmp_path / "data", {"DEDUP2D_METRICS_PORT": str(port)}) as served:
        live(served)
        beside = httpx.get(f"{served.url}/metrics", trust_env=False)
        until(lambda: asked(metrics()) >= 2)
        if start is serving:
            until(lambda: value(metrics(), "dedup2d_job_store_up") == 1)
            assert total(metrics(), "dedup2d_worker_slots") == 2
        else:
            assert value(metrics(), "dedup2d_job_store_up") is None
        assert served.stop() == 0

    assert (beside.status_code, beside.json()["code"]) == (404, "NOT_FOUND")
    with pytest.raises(httpx.ConnectError):
        metrics()
