"""docs/operations.md: its links, settings and metrics, and its fault drills done with processes."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dedup2d.settings import Settings
from dedup2d.smoke import STEP_NAMES
from tests.deployment import API, until
from tests.drills import Drill, drilled
from tests.test_docs import DOCUMENTS, ROOT

PAGE = ROOT / "docs" / "operations.md"
RULES = [ROOT / "deploy" / "prometheus" / "rules" / name for name in ("alerts.yml", "budgets.yml")]
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_TEXT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_CLIENTS = {"DEDUP2D_API_KEY"}
AGAIN_SECONDS = 100.0
"""Seconds until a job that was given back several times is tried again."""


def anchors(page: Path) -> set[str]:
    """Return what links may name in a page, as GitHub makes it of headings."""
    text = _CODE.sub("", page.read_text())
    titles = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(text))
    return {title.replace(" ", "-") for title in titles}


def section(title: str) -> str:
    """Return what stands under a heading of the third level."""
    [found] = re.findall(rf"^### {title}.*?$(.*?)(?=^##)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def alerts() -> Iterator[dict[str, str]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield {"name": rule["alert"], **rule["annotations"]}


def test_every_alert_has_its_section() -> None:
    """If this fails, somebody who is woken by an alert finds nothing under its link."""
    known = anchors(PAGE)
    found = list(alerts())

    assert len(found) > 10
    for alert in found:
        page, _, anchor = alert["runbook_url"].partition("#")
        assert (page, anchor) == ("docs/operations.md", alert["name"].lower())
        assert anchor in known, f"{alert['name']} has no section"
        text = section(alert["name"])
        for part in ("Means", "Causes", "Look at", "Do"):
            assert f"- **{part}**: " in text, f"{alert['name']} does not say: {part}"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """If this fails, a reader who follows a link lands nowhere."""
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_settings_and_metrics_exist() -> None:
    """If this fails, the runbook names a variable or a metric that nobody knows."""
    text, metrics = PAGE.read_text(), (ROOT / "docs" / "metrics.md").read_text()
    variables = set(re.findall(r"\b(?:DEDUP2D|DEDUPCAD)_[A-Z0-9_]*[A-Z0-9]\b(?!_)", text))
    names = set(re.findall(r"\b(?:dedup2d|dedupcad)_[a-z_]*[a-z]\b", text))

    assert {name for name in variables if not name.endswith("_S3")} <= Settings.names() | OF_CLIENTS
    assert len(names) > 10
    assert {name for name in names if f"`{name}`" not in metrics} == set()


def test_the_steps_of_smoke_are_told() -> None:
    """If this fails, a step that fails is not in the runbook, or one that is there does not exist."""
    text = PAGE.read_text()
    table = text[text.index("| step | sees |") : text.index("The last two callback steps")]
    told = re.findall(r"`([a-z-]+)`", "".join(line.split("|")[1] for line in table.splitlines() if line))

    assert set(told) == {*STEP_NAMES, "clean-up"}
    assert f"walks {len(STEP_NAMES)} steps" in text


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    with drilled(tmp_path) as drill:
        yield drill


def look_for(number: int, evidence: str) -> None:
    """See that each line of the drill is in what was seen; what differs is left out of the page."""
    seen = [" ".join(line.split()) for line in evidence.splitlines()]
    quoted = [line for block in _TEXT.findall(section(f"Drill {number}")) for line in block.splitlines()]
    assert quoted
    for line in quoted:
        parts = [part.strip() for part in re.split("…", " ".join(line.split()))]
        pattern = re.compile(".*".join(re.escape(part) for part in parts))
        assert any(pattern.search(each) for each in seen), f"nobody says: {line}\n\n{evidence}"


def evidence(drill: Drill) -> str:
    """Return all that an operator can look at."""
    return "\n".join((drill.metrics(), drill.command("jobs", "list"), drill.command("doctor"), drill.logs()))


def search_at_once(drill: Drill, **query: str) -> str:
    with drill.api.client() as client:
        return client.post(f"{API}/search", params=query, files={"file": ("q.png", drill.drawing)}).text


@pytest.mark.deployment
@pytest.mark.timeout(300)
def test_drill_vision_is_down(drill: Drill) -> None:
    """If this fails, the signs of a vision server that is down are not those of the runbook."""
    drill.vision.kill()
    job_id = drill.submit()
    search_at_once(drill)
    until(lambda: 'circuit_state{endpoint="search"} 2.0' in drill.metrics(), seconds=60)
    until(lambda: "failed too often" in (drill.api.job(job_id)["last_error"] or ""), seconds=60)
    until(lambda: "dedup2d_jobs_pending 1.0" in drill.metrics())
    look_for(1, evidence(drill))
    drill.vision.start()

    assert drill.api.final(job_id, seconds=AGAIN_SECONDS)["status"] == "completed"


@pytest.mark.deployment
@pytest.mark.timeout(300)
def test_drill_s3_refuses(drill: Drill) -> None:
    """If this fails, the signs of a bucket that refuses are not those of the runbook."""
    drill.worker.send(signal.SIGSTOP)
    job_id = drill.submit()
    drill.proxy.refuse = "[A-Z]+ /"
    drill.worker.send(signal.SIGCONT)
    refused = search_at_once(drill, **{"async": "true"})
    until(lambda: drill.api.job(job_id)["last_error"], seconds=60)
    look_for(2, refused + "\n" + evidence(drill))
    drill.proxy.refuse = None

    assert drill.api.final(job_id, seconds=AGAIN_SECONDS)["status"] == "completed"


@pytest.mark.deployment
@pytest.mark.timeout(300)
def test_drill_workers_are_gone(drill: Drill) -> None:
    """If this fails, the signs of workers that are gone are not those of the runbook."""
    drill.vision.send(signal.SIGSTOP)
    running = drill.submit()
    until(lambda: drill.api.status(running) == "in_progress", seconds=60)
    drill.worker.kill()
    drill.vision.send(signal.SIGCONT)
    waiting = drill.submit("other")
    until(lambda: "no worker listens" in drill.command("doctor"), seconds=60, every=1)
    until(lambda: "dedup2d_jobs_pending 1.0" in drill.metrics())
    seen = evidence(drill)
    drill.worker = drill.here.worker()
    ended = [drill.api.final(job_id, seconds=60)["status"] for job_id in (running, waiting)]
    look_for(3, seen + drill.logs())

    assert ended == ["completed", "completed"]
