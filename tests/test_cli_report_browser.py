"""The report of a scan in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_cli_report import HOSTILE, group_of, report_of, written

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--virtual-time-budget=3000", "--host-resolver-rules=MAP * ~NOTFOUND"),
)

OWN = re.compile(
    r"(file|data|chrome|chrome-extension|devtools):|https?://([a-z0-9.-]+\.)?(google|googleapis|gvt1)\.com/"
)
"""What is asked for by the file itself and by the browser for its own sake, whatever page it shows."""


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found and os.environ.get("CI"):
        pytest.fail("no chromium: CI must have one")
    return found or pytest.skip("no chromium on this machine")


@pytest.mark.timeout(120)
def test_the_page_works_offline_and_runs_only_its_own_script(tmp_path: Path) -> None:
    """If this fails, the report shows nothing, loads something from outside, or a file name runs as code."""
    program = browser()
    written(tmp_path, report_of(group_of(HOSTILE), group_of(["a.png", "b.png"])))
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            program,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={log}",
            "--dump-dom",
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    assert "2 of 2 groups" in done.stdout  # written by the page's script
    assert '<img src="x"' not in done.stdout
    assert [url for url in asked_for(log) if not OWN.match(url)] == []


def asked_for(log: Path) -> set[str]:
    events = json.loads(log.read_text())["events"]
    return {event["params"]["url"] for event in events if "url" in event.get("params", {})}
