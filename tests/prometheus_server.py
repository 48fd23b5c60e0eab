"""
A real Prometheus on loopback that scrapes a staged deployment with the rules of deploy/prometheus.

`prometheus` of the PATH is used (Debian's package of this name). The rules run on a faster clock: `faster`.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from attrs import frozen

from tests.deployment import Deployment
from tests.leashed import Leashed, ServerNotStartedError
from tests.prometheus_files import INSTALL, PROMETHEUS, RULES
from tests.servers import free_port

__all__ = ["WINDOW", "Prometheus", "faster", "panel_query", "started"]

_SPEED = 60
_JOB_SPEED = 12
_SHORTEST_SECONDS = 5
_SCRAPE_SECONDS = 1
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\[|\bfor: |^ +interval: )(\d+)([smhd])(?=\]|$)", re.MULTILINE)
_LIMIT_OF_JOBS = re.compile(r"(\bdedup2d:jobs?_\w*seconds:\w+ > )(\d+)\b")

WINDOW = f"{3 * _SHORTEST_SECONDS}s"
"""What Grafana's `$__rate_interval` becomes."""


def faster(rules: str) -> str:
    """
    Return the text of a file of rules for a clock that runs 60 times as fast.

    Windows, `for` and the intervals of groups become a sixtieth, but no less than 5 s: five scrapes. Limits
    of how long jobs wait and take become a twelfth, as jobs themselves do not run faster. All else stays as
    it is: shares, counts, and the age of the last collection, as processes collect every ten minutes.
    """

    def duration(found: re.Match[str]) -> str:
        before, number, unit = found.groups()
        return f"{before}{max(_SHORTEST_SECONDS, int(number) * _SECONDS[unit] // _SPEED)}s"

    def limit(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) / _JOB_SPEED:g}"

    return _LIMIT_OF_JOBS.sub(limit, _DURATION.sub(duration, rules))


def panel_query(expr: str) -> str:
    """Return what Grafana asks for when all processes are chosen."""
    return expr.replace("$__rate_interval", WINDOW).replace("$instance", ".*")


@frozen
class Prometheus:
    """A running server; *directory* has its configuration, rules, targets and data."""

    directory: Path
    process: Leashed
    url: str

    def follow(self, targets: Mapping[str, Iterable[str]]) -> None:
        """Scrape these addresses from now on, by job."""
        for job, addresses in targets.items():
            path = self.directory / f"{job}.json"
            made = path.with_suffix(".new")
            made.write_text(json.dumps([{"targets": sorted(addresses)}]))
            made.replace(path)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples that an expression has now: their labels as `metric`, and `value`."""
        return list(self._get("query", query=expr)["result"])

    def number(self, expr: str) -> float | None:
        """Return the value of the first sample that is a finite number, None if there is none."""
        values = (float(sample["value"][1]) for sample in self.query(expr))
        return next(filter(math.isfinite, values), None)

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}

    def fired(self, seconds: float) -> dict[tuple[str, str], list[dict[str, str]]]:
        """Return the labels of the alerts that fired in the last *seconds*, by name and severity."""
        found: dict[tuple[str, str], list[dict[str, str]]] = {}
        window = max(_SCRAPE_SECONDS, math.ceil(seconds))
        for sample in self.query(f'count_over_time(ALERTS{{alertstate="firing"}}[{window}s])'):
            labels = sample["metric"]
            found.setdefault((labels["alertname"], labels["severity"]), []).append(labels)
        return found

    def unhealthy(self) -> list[str]:
        """Return the rules that cannot be evaluated, and why."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]

    def _get(self, what: str, **given: str) -> dict[str, Any]:
        assert self.process.running(), self.process.end_of_log()
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=given, trust_env=False, timeout=10)
        assert answer.status_code == 200, f"{given}: {answer.text}"
        data: dict[str, Any] = answer.json()["data"]
        return data


def started(here: Deployment) -> Prometheus:
    """
    Start a server beside the deployment, which `Prometheus.follow` tells what to scrape.

    Raises:
        ServerNotStartedError: there is no `prometheus` on the PATH.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise ServerNotStartedError(f"no prometheus: {INSTALL}")
    directory, port = here.directory / "prometheus", free_port()
    (directory / "rules").mkdir(parents=True)
    for path in RULES:
        (directory / "rules" / path.name).write_text(faster(path.read_text()))
    (directory / "prometheus.yml").write_text(yaml.safe_dump(_configuration()))
    options = {
        "config.file": directory / "prometheus.yml",
        "storage.tsdb.path": directory / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    process = here.running([binary, *words], "prometheus")
    server = Prometheus(directory, process, f"http://127.0.0.1:{port}")
    here.wait_for(process, lambda: httpx.get(f"{server.url}/-/ready", trust_env=False).status_code == 200)
    return server


def _configuration() -> dict[str, Any]:
    """Return the committed one, with a faster clock, and targets from files."""
    loaded: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    loaded["global"] = {
        "scrape_interval": f"{_SCRAPE_SECONDS}s",
        "scrape_timeout": f"{_SCRAPE_SECONDS}s",
        "evaluation_interval": f"{_SCRAPE_SECONDS}s",
    }
    # What `dedup2d gc` writes comes by the node exporter.
    jobs = [*(each["job_name"] for each in loaded["scrape_configs"]), "node"]
    loaded["scrape_configs"] = [
        {"job_name": job, "file_sd_configs": [{"files": [f"{job}.json"], "refresh_interval": "1s"}]}
        for job in jobs
    ]
    return loaded
