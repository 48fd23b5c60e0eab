"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from attrs import evolve
from cyclopts import Group, Parameter, validators

from dedup2d.errors import InvalidParameterError
from dedup2d.presets import PRESETS
from dedup2d.search_params import ignored_of
from dedup2d.settings import Settings
from dedup2d.types import MAX_RESULTS_LIMIT, Mode, SearchParams

__all__ = [
    "DataDir",
    "Duplicate",
    "Ignore",
    "Jobs",
    "Json",
    "MaxResults",
    "MetricsHost",
    "MetricsPort",
    "ModeOption",
    "PageLimit",
    "PageToken",
    "Preset",
    "Quiet",
    "Similar",
    "at_least_one",
    "load_settings",
    "search_params",
    "with_metrics",
]

_SHARED = Group("Shared options", sort_key=10)

# Text, not a path: Path("") is the working directory, which an unset variable should not mean.
DataDir = Annotated[
    str | None,
    Parameter(
        name="--data-dir",
        group=_SHARED,
        help="Where the index is kept. [default: $DEDUP2D_DATA_DIR, else ~/.local/share/dedup2d]",
    ),
]
Json = Annotated[
    bool, Parameter(name="--json", negative="", show_default=False, group=_SHARED, help="Print JSON.")
]
PageLimit = Annotated[
    int,
    Parameter(
        name=("--limit", "-n"),
        help="Most that are listed, 1 to 500.",
        validator=validators.Number(gte=1, lte=500),
    ),
]
PageToken = Annotated[str | None, Parameter(help="Go on where an earlier list ended.")]
Quiet = Annotated[
    bool,
    Parameter(
        name=("--quiet", "-q"),
        negative="",
        show_default=False,
        group=_SHARED,
        help="No progress bar and no notes.",
    ),
]
Jobs = Annotated[
    int | None,
    Parameter(
        name=("--jobs", "-j"),
        group=_SHARED,
        validator=validators.Number(gte=1, lte=256),
        help="Processes that read and compare at once. [default: one per core, at most 8]",
    ),
]
MetricsPort = Annotated[
    int | None,
    Parameter(
        name="--metrics-port",
        help="Show /metrics on this port, and not beside the API. [default: $DEDUP2D_METRICS_PORT]",
        validator=validators.Number(gte=1, lte=65535),
    ),
]
MetricsHost = Annotated[
    str | None,
    Parameter(
        name="--metrics-host",
        help="Address of that port. [default: $DEDUP2D_METRICS_HOST, else 127.0.0.1]",
    ),
]
Preset = Annotated[
    Literal["strict", "version", "loose"] | None,
    Parameter(help="A named set of mode and thresholds; the options below win over it. [default: strict]"),
]
ModeOption = Annotated[
    Mode | None,
    Parameter(
        name="--mode",
        help="fast: fingerprints only. balanced: verify the best. precise: verify more. [default: balanced]",
    ),
]
MaxResults = Annotated[
    int,
    Parameter(name=("--max-results", "-n"), help=f"Most matches for each file, 1 to {MAX_RESULTS_LIMIT}."),
]
Duplicate = Annotated[
    float | None,
    Parameter(name="--duplicate-threshold", help="Least similarity of a duplicate, 0 to 1. [default: 0.95]"),
]
Similar = Annotated[
    float | None,
    Parameter(name="--similar-threshold", help="Least similarity of anything found, 0 to 1. [default: 0.8]"),
]


Ignore = Annotated[
    list[str] | None,
    Parameter(
        name="--ignore",
        negative="",
        help="Leave a part of the sheet out: frame, title_block, or X,Y,WIDTH,HEIGHT as shares 0 to 1."
        " May be given several times.",
    ),
]


EnableMl = Annotated[
    bool,
    Parameter(
        name="--enable-ml",
        negative="",
        show_default=False,
        help="Ask the model that DEDUP2D_ML_MODEL names for further candidates.",
    ),
]


def at_least_one(given: Sequence[object], what: str, command: str) -> None:
    """
    Make sure that something was given to work on.

    Raises:
        InvalidParameterError: nothing was.
    """
    if not given:
        error = InvalidParameterError(what, "", "")
        error.args = (f"give at least one {what}: see dedup2d {command} --help",)
        raise error


def load_settings(data_dir: str | None, *, jobs: int | None = None) -> Settings:
    """
    Return the environment's settings with what the command line says instead.

    Raises:
        ConfigurationError: a setting is not allowed.
        InvalidParameterError: *data_dir* is empty.
    """
    if data_dir is not None and not data_dir.strip():
        raise InvalidParameterError("--data-dir", data_dir, "the path of a directory")
    settings = Settings.from_environment()
    if data_dir is not None:
        settings = evolve(settings, data_dir=Path(data_dir).expanduser())
    return settings if jobs is None else evolve(settings, engine_processes=jobs)


def with_metrics(settings: Settings, port: int | None, host: str | None) -> Settings:
    """Return *settings* with the address of the metrics that the command line gives."""
    return evolve(
        settings,
        metrics_port=settings.metrics_port if port is None else port,
        metrics_host=host or settings.metrics_host,
    )


def search_params(
    *,
    preset: str | None = None,
    mode: Mode | None = None,
    duplicate_threshold: float | None = None,
    similar_threshold: float | None = None,
    max_results: int = 50,
    exclude_self: bool = False,
    diff_top_n: int = 0,
    ignore: Sequence[str] | None = None,
    enable_ml: bool = False,
) -> SearchParams:
    """
    Return what a search is asked to do: what is given, else the preset's, else the default.

    Raises:
        InvalidParameterError: a value is out of its range.
    """
    given = {
        "mode": mode,
        "duplicate_threshold": duplicate_threshold,
        "similar_threshold": similar_threshold,
    }
    chosen = PRESETS[preset].search_params() if preset else {}
    return SearchParams(
        max_results=max_results,
        compute_diff=diff_top_n > 0,
        diff_top_n=diff_top_n,
        exclude_self=exclude_self,
        enable_ml=enable_ml,
        ignore=tuple(ignored_of(text) for text in ignore or ()),
        **{**chosen, **{name: value for name, value in given.items() if value is not None}},
    )
