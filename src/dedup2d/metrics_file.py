"""
Metrics of collections in a file, for the textfile collector of node_exporter.

A command that ends cannot be scraped. Its counters go on from what the file says of earlier runs, so that
rates are right; the file appears whole or not at all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from dedup2d.errors import InvalidParameterError, MissingExtraError
from dedup2d.metrics import PrometheusMetrics

try:
    from prometheus_client import Metric, generate_latest
    from prometheus_client.parser import text_string_to_metric_families
except ImportError as error:
    raise MissingExtraError("http", "exporting metrics") from error

__all__ = ["check_metrics_file", "write_metrics_file"]

_PREFIX = "dedup2d_gc_"
_SUCCESS = "dedup2d_gc_last_success_timestamp_seconds"
_LONGEST = 1024 * 1024

Values = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def check_metrics_file(path: Path) -> None:
    """
    Make sure, before anything is done, that the file can be written.

    Raises:
        InvalidParameterError: it cannot.
    """
    if path.is_dir():
        raise InvalidParameterError("--metrics-file", str(path), "the path of a file, not of a directory")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InvalidParameterError(
            "--metrics-file", str(path), "a file in a directory that can be written to"
        )


def write_metrics_file(path: Path, metrics: PrometheusMetrics) -> None:
    """
    Write what *metrics* tells of collections into the file, all or nothing.

    Raises:
        OSError: it cannot be written.
    """
    text = generate_latest(_Continued(metrics, _read(path)))
    # node_exporter reads *.prom only, so it never sees the unfinished one.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with unfinished.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # node_exporter runs as a user of its own.
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Values:
    """Return the values in the file; none if it is not there or not ours."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode()
        families = [one for one in text_string_to_metric_families(text) if one.name.startswith(_PREFIX)]
    except (OSError, ValueError):
        return {}
    return {_named(s.name, s.labels): s.value for family in families for s in family.samples}


def _named(name: str, labels: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


class _Continued:
    """The families of collections, their counters on top of those of earlier runs."""

    def __init__(self, metrics: PrometheusMetrics, before: Values) -> None:
        self._registry = metrics.registry
        self._before = before

    def collect(self) -> Iterable[Metric]:
        now = {metric.name: metric for metric in self._registry.collect() if metric.name.startswith(_PREFIX)}
        for metric in now.values():
            metric.samples = [
                sample._replace(value=self._value(sample.name, sample.labels, sample.value))
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ]
            yield metric

    def _value(self, name: str, labels: Mapping[str, str], value: float) -> float:
        before = self._before.get(_named(name, labels), 0.0)
        return max(before, value) if name == _SUCCESS else before + value
