"""The page about metrics, held against what is exported."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from dedup2d.files.memory import MemoryFileStore
from dedup2d.files.observed import observed
from dedup2d.metrics import PrometheusMetrics, VisionServerMetrics
from dedup2d.vision.http import HTTPVisionClient, VisionOptions
from dedup2d_http import vision_routes
from dedup2d_http.routes import RESOURCES
from dedup2d_http.traffic import counted
from tests.metrics_support import samples
from tests.prometheus_files import exported, ran

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
ROW = re.compile(r"^\| `([a-z0-9_]+)` \| ?(.*?) \| ?(.*?) \| ?(.*?) ?\|$", re.MULTILINE)
SYSTEM = ("process_", "python_")


def rows() -> dict[str, tuple[frozenset[str], str]]:
    """Return labels and meaning of each metric that the page tells of."""
    told = ROW.findall(PAGE.read_text())
    assert len({name for name, *_ in told}) == len(told)
    return {name: (frozenset(re.findall(r"`(\w+)`", labels)), meaning) for name, labels, meaning, _ in told}


def test_the_page_tells_of_each_metric() -> None:
    """If this fails, an operator meets a metric that nobody explains, or looks for one that is not there."""
    page = {
        name: (meaning.split(",")[0].split(":")[0], labels)
        for name, (labels, meaning) in rows().items()
        if not name.startswith(SYSTEM)
    }

    assert page == exported()


@pytest.mark.skipif(sys.platform != "linux", reason="there are none elsewhere")
def test_the_page_tells_of_the_process() -> None:
    """If this fails, the process's own metrics are not those of the page."""
    names = {name for name, _ in samples(PrometheusMetrics().render().decode()) if name.startswith(SYSTEM)}

    assert {name for name in rows() if name.startswith(SYSTEM)} == names


def test_units_are_those_of_the_names() -> None:
    """If this fails, somebody reads milliseconds as seconds."""
    for name, (_, meaning) in rows().items():
        if name.startswith("dedup"):
            kind = meaning.split(":")[0]
            assert ("seconds" in kind or "Unix time" in kind) == ("_seconds" in name), name
            assert ("bytes" in kind) == ("_bytes" in name), name


def test_what_to_do_is_said() -> None:
    """If this fails, a metric moves and the page does not say what that means."""
    silent = [name for name, _, _, todo in ROW.findall(PAGE.read_text()) if not todo.strip()]

    assert set(silent) <= {
        "dedup2d_engine_indexes",
        "process_virtual_memory_bytes",
        "process_max_fds",
        "python_info",
    }


def test_as_many_samples_as_the_page_says() -> None:
    """If this fails, an operator plans Prometheus by numbers that are not true any more."""
    worker = PrometheusMetrics()
    HTTPVisionClient(VisionOptions(url="http://127.0.0.1:1"), observer=worker)
    observed(MemoryFileStore(), worker)
    vision = VisionServerMetrics()
    observed(MemoryFileStore(), vision)
    counted(vision, vision_routes.RESOURCES)
    of_worker, of_vision = (len(samples(each.render().decode())) for each in (worker, vision))
    counted(worker, RESOURCES)
    of_service = len(samples(worker.render().decode()))

    said = re.search(
        r"a service has ([\d,]+) samples, a worker ([\d,]+), a vision server ([\d,]+)", PAGE.read_text()
    )
    assert said
    for found, text in zip((of_service, of_worker, of_vision), said.groups(), strict=True):
        assert found == pytest.approx(int(text.replace(",", "")), rel=0.1)


def test_the_configuration_of_the_page(tmp_path: Path) -> None:
    """If this fails, Prometheus does not start with what the page shows."""
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(shown)
    checked = ran("check", "config", "prometheus.yml", cwd=tmp_path)

    assert checked.returncode == 0, checked.stderr
    assert re.findall(r"job_name: (\S+)", shown) == ["dedup2d-api", "dedup2d-worker", "dedup2d-vision"]
