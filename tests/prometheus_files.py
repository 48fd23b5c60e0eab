"""Reads the dashboard and the rules of deploy/ as Grafana and Prometheus would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from dedup2d.metrics import PrometheusMetrics

PROMETHEUS = Path(__file__).parent.parent / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
DASHBOARD = PROMETHEUS.parent / "grafana" / "dedup2d.json"
INSTALL = "install Debian's package `prometheus`, or put its binaries on the PATH"

_NOT_NAMES = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)'
)
_NAME = re.compile(r"(?<![\w.:])([a-zA-Z_][\w:]*)\b(?!\s*\()")
_OPERATORS = {"and", "or", "unless", "bool", "offset"}


def exported() -> dict[str, tuple[str, frozenset[str]]]:
    """Return the type and labels of each metric of our own, by name."""
    found = {}
    for family in PrometheusMetrics()._make.registry._collector_to_names:
        if hasattr(family, "_labelnames"):
            name = family._name + ("_total" if family._type == "counter" else "")
            found[name] = family._type, frozenset(family._labelnames)
    return found


@cache
def series() -> set[str]:
    """Return the names of all series that our own metrics are."""
    parts = {"histogram": ("_bucket", "_count", "_sum")}
    return {name + part for name, (kind, _) in exported().items() for part in parts.get(kind, ("",))}


def names_in(expr: str) -> set[str]:
    """Return the names of the series that an expression of PromQL asks for."""
    return set(_NAME.findall(_NOT_NAMES.sub(" ", expr))) - _OPERATORS


@cache
def rules() -> list[dict[str, Any]]:
    """Return all rules, in the order of the files."""
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def recorded() -> dict[str, list[dict[str, Any]]]:
    """Return the recording rules, by the names of what they record."""
    return _by("record")


def alerts() -> dict[str, list[dict[str, Any]]]:
    """Return the alerting rules, by the names of the alerts."""
    return _by("alert")


def _by(kind: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for rule in rules():
        if kind in rule:
            found.setdefault(rule[kind], []).append(rule)
    return found


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard but its rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def promtool() -> str:
    """Return the command; without it, skip the test at home and fail it where `CI` is set."""
    found = shutil.which("promtool")
    if found is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no promtool: {INSTALL}")
    return found


def ran(*words: str | Path, seconds: float = 50, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `promtool` with these arguments."""
    options = {"capture_output": True, "text": True, "timeout": seconds, "check": False, **more}
    return subprocess.run([promtool(), *map(str, words)], **options)  # type: ignore[call-overload,no-any-return]  # noqa: PLW1510 - any of its options
