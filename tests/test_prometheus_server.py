"""The faster clock on which staging runs the rules, and what staging says without a Prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest
import yaml

from tests.deployment import Deployment
from tests.leashed import ServerNotStartedError
from tests.prometheus_files import RULES, panels, ran
from tests.prometheus_server import faster, panel_query, started

_NUMBER = re.compile(r"\d+")


def test_a_clock_that_runs_faster() -> None:
    """If this fails, staging waits for hours, or looks at windows without a scrape in them."""
    rules = """
  - name: a5m
    interval: 2m
    rules:
      - record: a:b:ratio_rate5m
        expr: sum(rate(b_total{c="for: 5m"}[15m])) / sum(rate(b_total[30d])) > 0.05
      - alert: Waits
        expr: dedup2d:jobs_pending:max > 20 and dedup2d:jobs_backlog_seconds:max > 900
        for: 10m
      - alert: Slow
        expr: dedup2d:job_duration_seconds:p95_rate15m > 120 or dedup2d:gc_age_seconds:min > 3600
        for: 1m
"""
    assert (
        faster(rules)
        == """
  - name: a5m
    interval: 5s
    rules:
      - record: a:b:ratio_rate5m
        expr: sum(rate(b_total{c="for: 5m"}[15s])) / sum(rate(b_total[43200s])) > 0.05
      - alert: Waits
        expr: dedup2d:jobs_pending:max > 20 and dedup2d:jobs_backlog_seconds:max > 75
        for: 10s
      - alert: Slow
        expr: dedup2d:job_duration_seconds:p95_rate15m > 10 or dedup2d:gc_age_seconds:min > 3600
        for: 5s
"""
    )


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_are_the_committed_ones(path: Path) -> None:
    """If this fails, staging proves something of other rules than those that are deployed."""
    text = path.read_text()
    again = faster(text)

    # Nothing but numbers and the unit after them has changed, and no window is as long as it was.
    assert _NUMBER.sub("0", re.sub(r"(\d)[smhd]\b", r"\1", again)) == _NUMBER.sub(
        "0", re.sub(r"(\d)[smhd]\b", r"\1", text)
    )
    assert not set(re.findall(r"\[\d+[mhd]\]|for: \d+[mhd]$", again, re.MULTILINE))


def test_promtool_accepts_the_faster_rules(tmp_path: Path) -> None:
    """If this fails, the Prometheus of staging does not start."""
    for path in RULES:
        (tmp_path / path.name).write_text(faster(path.read_text()))
        assert yaml.safe_load((tmp_path / path.name).read_text())["groups"]
    done = ran("check", "rules", *tmp_path.iterdir())

    assert done.returncode == 0, done.stdout + done.stderr


def test_queries_of_panels_have_no_variable_left() -> None:
    """If this fails, staging asks for something that only Grafana knows, and finds no samples."""
    asked = [panel_query(target["expr"]) for panel in panels() for target in panel["targets"]]

    assert not [expr for expr in asked if "$" in expr]


def test_no_prometheus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If this fails, who runs staging without a Prometheus is not told what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ServerNotStartedError, match="install Debian's package `prometheus`"):
        started(cast("Deployment", None))
