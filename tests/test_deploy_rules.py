"""The rules of deploy/prometheus, held against what is exported, and by their unit tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus_files import PROMETHEUS, RULES, alerts, names_in, ran, recorded, rules, series

RUNBOOK = PROMETHEUS.parent.parent / "docs" / "operations.md"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


def test_promtool_accepts_the_rules() -> None:
    """If this fails, Prometheus does not start with these rules."""
    done = ran("check", "rules", "--lint=all", "--lint-fatal", *RULES)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.once
@pytest.mark.timeout(200)
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_unit_tests_say(path: Path) -> None:
    """If this fails, an alert fires when it should not, or keeps quiet when it should."""
    done = ran("test", "rules", path, seconds=180)

    assert done.returncode == 0, done.stdout + done.stderr


def test_unit_tests_evaluate_all_groups_in_one_order() -> None:
    """If this fails, promtool shuffles the groups, and a unit test fails now and then by a step."""
    groups = [group["name"] for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    alerting = {name for name in groups if name.startswith("dedup2d-alerts-")}

    assert len(set(groups)) == len(groups)
    for path in UNIT_TESTS:
        order = yaml.safe_load(path.read_text())["group_eval_order"]
        assert sorted(order) == sorted(groups)
        assert set(order[-len(alerting) :]) == alerting, "alerts come after what they read"


def test_each_alert_has_a_unit_test_of_either_case() -> None:
    """If this fails, nobody has seen that an alert fires, or that it keeps quiet."""
    cases = [
        case
        for path in UNIT_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}

    assert fires == quiet == alerts().keys()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("record") or rule.get("alert"))
def test_rules_name_what_exists(rule: dict[str, Any]) -> None:
    """If this fails, a rule asks for what nothing exports or records, and never says anything."""
    unknown = names_in(rule["expr"]) - series() - recorded().keys() - {"up"}

    assert not unknown, rule["expr"]


def test_alerts_send_their_reader_to_a_section_of_their_own() -> None:
    """If this fails, an alert says neither how bad it is nor what to do."""
    sections = re.findall(r"^### (Dedup2D\w+)$", RUNBOOK.read_text(), re.MULTILINE)

    assert set(sections) == alerts().keys()
    for name, each in alerts().items():
        for rule in each:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["description"]


def test_the_configuration_is_sound() -> None:
    """If this fails, the Prometheus of the compose file does not start, or its jobs are not the rules'."""
    path = PROMETHEUS / "prometheus.yml"
    done = ran("check", "config", path)
    scraped = {each["job_name"] for each in yaml.safe_load(path.read_text())["scrape_configs"]}
    asked = {job for rule in rules() for job in re.findall(r'job="([\w-]+)"', rule["expr"])}

    assert done.returncode == 0, done.stderr
    assert scraped == {"dedup2d-api", "dedup2d-worker", "dedup2d-vision"}
    assert asked <= scraped
