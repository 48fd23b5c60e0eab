"""The service against kill -9 and SIGTERM: nothing admitted is lost, nothing runs into two results."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.drawings import small_png
from tests.serving import Served, serving

pytestmark = pytest.mark.once

PREFIX = "/api/v1/dedup/2d"
QUICK = {
    "DEDUP2D_ASYNC_LEASE_SECONDS": "2",
    "DEDUP2D_ASYNC_HEARTBEAT_SECONDS": "0.5",
    "DEDUP2D_ASYNC_SWEEP_SECONDS": "0.5",
}


def submit(client: httpx.Client, count: int) -> list[str]:
    ids = []
    for number in range(count):
        answer = client.post(
            f"{PREFIX}/search",
            params={"async": "true"},
            files={"file": (f"query-{number}.png", small_png(), "image/png")},
        )
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["job_id"])
    return ids


def jobs(client: httpx.Client) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    token = None
    while True:
        answer = client.get(
            f"{PREFIX}/jobs", params={"limit": 20, **({"page_token": token} if token else {})}
        )
        found += answer.json()["jobs"]
        token = answer.json()["next_page_token"]
        if not token:
            return found


def wait_until(
    served: Served, client: httpx.Client, enough: int, status: str, seconds: float
) -> Counter[object]:
    end = time.monotonic() + seconds
    while True:
        counts = Counter(job["status"] for job in jobs(client))
        if counts[status] >= enough:
            return counts
        assert time.monotonic() < end, f"{counts}\n{served.log.read_text()[-3000:]}"
        time.sleep(0.1)


@pytest.mark.timeout(240)
def test_killed_with_fifty_jobs_queued_and_two_running(tmp_path: Path) -> None:
    """If this fails, a power cut loses jobs that were answered with 202, or lists one twice."""
    data = tmp_path / "data"
    with serving(data, QUICK) as served, served.client() as client:
        ids = submit(client, 52)
        wait_until(served, client, 2, "in_progress", 30)
        served.kill()

    with serving(data, QUICK) as served, served.client() as client:
        counts = wait_until(served, client, 52, "completed", 150)
        listed = [job["job_id"] for job in jobs(client)]

    assert counts == {"completed": 52}
    assert sorted(listed) == sorted(ids)


@pytest.mark.timeout(120)
def test_sigterm_gives_running_jobs_back(tmp_path: Path) -> None:
    """If this fails, a deploy fails or cancels the searches that run, or makes them wait for a lease."""
    data = tmp_path / "data"
    long_lease = {"DEDUP2D_ASYNC_SWEEP_SECONDS": "0.5"}
    with serving(data, long_lease) as served, served.client() as client:
        submit(client, 6)
        wait_until(served, client, 1, "in_progress", 30)

        assert served.stop() == 0

    with serving(data, long_lease) as served, served.client() as client:
        counts = wait_until(served, client, 6, "completed", 50)

    assert counts == {"completed": 6}
