"""
Builds the Grafana dashboard: `python deploy/grafana/dashboard.py` writes deploy/grafana/dedup2d.json.

Another place may be given as argument. What is in which row stands in `panels.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from panels import ROWS, Panel, Query, Stat

FILE = Path(__file__).with_name("dedup2d.json")
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_COLUMNS = 24
_HEIGHT = 8


def _target(query: Query, number: int, *, instant: bool) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
    )
    return target.instant() if instant else target.range()


def _graph() -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    return timeseries.Panel().legend(legend).tooltip(tooltip).fill_opacity(10).min(0)


def _stat(panel: Stat) -> stat.Panel:
    calm, alarm = ("red", "green") if panel.more_is_better else ("green", "red")
    steps = [models.Threshold(color=calm, value=None), models.Threshold(color=alarm, value=panel.threshold)]
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    return stat.Panel().thresholds(thresholds).color_mode(BigValueColorMode.VALUE)


def _built(panel: Panel, number: int, place: models.GridPos) -> timeseries.Panel | stat.Panel:
    made = _stat(panel) if isinstance(panel, Stat) else _graph()
    made.id(number).title(panel.title).description(panel.says).unit(panel.unit)
    made.datasource(_SOURCE).grid_pos(place)
    for position, query in enumerate(panel.queries):
        made.with_target(_target(query, position, instant=isinstance(panel, Stat)))
    return made


def _variables(board: dashboard.Dashboard) -> None:
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    instance = (
        dashboard.QueryVariable("instance")
        .label("Process")
        .datasource(_SOURCE)
        .query('label_values(up{job=~"dedup2d-(api|worker|vision)"}, instance)')
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )
    board.with_variable(source).with_variable(instance)


def built() -> str:
    """Return the dashboard as JSON."""
    board = (
        dashboard.Dashboard("Dedup2D Dashboard")
        .uid("dedup2d")
        .description(
            "What a deployment of dedup2d does, seen by Prometheus; docs/operations.md says what to do."
        )
        .tags(["dedup2d"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
    )
    _variables(board)
    number, top = 1, 0
    for title, panels in ROWS:
        row = dashboard.Row(title).id(number)
        row.grid_pos(models.GridPos(x=0, y=top, w=_COLUMNS, h=1))
        board.with_row(row)
        number, top, left = number + 1, top + 1, 0
        for panel in panels:
            if left + panel.width > _COLUMNS:
                top, left = top + _HEIGHT, 0
            place = models.GridPos(x=left, y=top, w=panel.width, h=_HEIGHT)
            board.with_panel(_built(panel, number, place))
            number, left = number + 1, left + panel.width
        top += _HEIGHT
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else FILE).write_text(built())
