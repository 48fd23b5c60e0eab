"""The dashboard of deploy/grafana, held against the script that writes it and what is exported."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prometheus_files import DASHBOARD, dashboard, names_in, panels, recorded, series

ROWS = ["Traffic", "Jobs", "Queue", "Vision and circuit", "Files", "Callbacks", "Engine", "Processes"]
# Of Prometheus itself, and of prometheus-client: docs/metrics.md has the latter.
FOREIGN = re.compile(r"up|ALERTS|process_\w+")
_COLUMNS = 24


def test_the_script_writes_what_is_committed(tmp_path: Path) -> None:
    """If this fails, somebody changed the dashboard and not its script: the next run would undo it."""
    made = tmp_path / "made.json"
    script = DASHBOARD.with_name("dashboard.py")
    done = subprocess.run([sys.executable, script, made], capture_output=True, timeout=50, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert made.read_text() == DASHBOARD.read_text(), "run python deploy/grafana/dashboard.py"


def test_rows_in_their_order() -> None:
    """If this fails, an operator who follows the runbook looks for a row that is not there."""
    board = dashboard()

    assert board["title"] == "Dedup2D Dashboard"
    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == ROWS


def test_each_row_has_panels_below_it() -> None:
    """If this fails, a row is empty, or a panel stands under the heading of another."""
    kinds = [panel["type"] == "row" for panel in dashboard()["panels"]]
    tops = [panel["gridPos"]["y"] for panel in dashboard()["panels"]]

    assert kinds[0]
    assert not kinds[-1]
    assert not any(one and next_one for one, next_one in itertools.pairwise(kinds))
    assert tops == sorted(tops)


def test_panels_have_ids_of_their_own() -> None:
    """If this fails, Grafana links or renders one panel in place of another."""
    ids = [panel["id"] for panel in dashboard()["panels"]]

    assert len(set(ids)) == len(ids) > len(ROWS)


def test_panels_do_not_overlap() -> None:
    """If this fails, Grafana moves panels about, or one hides another."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= _COLUMNS, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_the_source_of_data_is_a_variable() -> None:
    """If this fails, the dashboard shows nothing in a Grafana whose Prometheus has another name."""
    [source, instance] = dashboard()["templating"]["list"]

    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (instance["name"], instance["allValue"]) == ("instance", ".*")
    for each in (instance, *panels()):
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_queries_name_what_exists(panel: dict[str, list[dict[str, str]]]) -> None:
    """If this fails, a panel stays empty for ever: nothing exports or records what it asks for."""
    assert panel["targets"]
    for target in panel["targets"]:
        names = names_in(target["expr"])
        unknown = {name for name in names - series() - recorded().keys() if not FOREIGN.fullmatch(name)}
        assert names, target["expr"]
        assert not unknown, target["expr"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_panels_say_what_they_show(panel: dict[str, object]) -> None:
    """If this fails, an operator sees a line without a unit, a legend or a word of what it means."""
    assert panel["description"]
    assert isinstance(panel["fieldConfig"], dict)
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert isinstance(panel["targets"], list)
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert all(legends)
    assert len(set(legends)) == len(legends)


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        (
            'sum by (le, job) (rate(a_bucket{b="c or d",e=~".*"}[$__rate_interval])) or vector(0)',
            {"a_bucket"},
        ),
        ("time() - max(a) offset 5m > 2 * on (b) (1 - c:d:e)", {"a", "c:d:e"}),
    ],
)
def test_names_are_told_from_the_rest(expr: str, names: set[str]) -> None:
    """If this fails, the tests above look at something else than the names of series."""
    assert names_in(expr) == names
