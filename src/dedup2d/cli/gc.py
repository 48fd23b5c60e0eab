"""`dedup2d gc`: deletes what nobody needs any more."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from attrs import asdict
from cyclopts import Parameter

from dedup2d.cli.exits import Exit
from dedup2d.cli.options import DataDir, Json, Quiet, load_settings
from dedup2d.cli.session import run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, visible
from dedup2d.collecting import Waste
from dedup2d.errors import Dedup2DError
from dedup2d.garbage import Garbage
from dedup2d.observe import Observer

__all__ = ["gc"]

_COLUMNS = (
    Column("kind"),
    Column("bytes", number=True),
    Column("age", number=True),
    Column("name", wraps=True),
)
_SHOWN = 10_000


def gc(
    *,
    dry_run: Annotated[
        bool, Parameter(negative="", show_default=False, help="List what would go, and delete nothing.")
    ] = False,
    metrics_file: Annotated[
        Path | None,
        Parameter(
            help="Write how it went into this file, for the textfile collector of node_exporter"
            " (which reads *.prom)."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Delete expired jobs, uploads without a live job, geometries without a drawing, and other leftovers.

    Those are half uploads, and what killed vision servers left. Services and workers do so too while they
    run, but for geometries: this is for a schedule of your own, or to see why a disk fills up. It may run
    beside them. Run it with the environment of the service; files of others in the same directory or bucket
    are left alone. Exits with 3 if something could not be deleted.
    """
    terminal = Terminal(quiet=quiet)
    settings = load_settings(data_dir)
    run = _Run(terminal, listing=json or dry_run)
    observer = Observer() if metrics_file is None or dry_run else _metrics(metrics_file)
    garbage = Garbage(
        settings=settings,
        observer=observer,
        dry_run=dry_run,
        told=run.told,
        failed=run.failed,
        noted=lambda text: terminal.note(f"dedup2d: {visible(text)}"),
    )
    started = time.monotonic()
    complete = False
    try:
        run_async(garbage.run)
        complete = True
    finally:
        if not dry_run and metrics_file is not None:
            _write(metrics_file, observer)
        if complete or garbage.jobs or _found(garbage):
            run.report(garbage, json=json, complete=complete, seconds=time.monotonic() - started)
    return Exit.PARTIAL if garbage.failures else Exit.OK


def _metrics(path: Path) -> Observer:
    from dedup2d.metrics import PrometheusMetrics  # noqa: PLC0415 - behind an extra
    from dedup2d.metrics_file import check_metrics_file  # noqa: PLC0415 - behind an extra

    check_metrics_file(path)
    return PrometheusMetrics(process=False)


def _write(path: Path, observer: Observer) -> None:
    from dedup2d.metrics import PrometheusMetrics  # noqa: PLC0415 - behind an extra
    from dedup2d.metrics_file import write_metrics_file  # noqa: PLC0415 - behind an extra

    assert isinstance(observer, PrometheusMetrics)
    write_metrics_file(path, observer)


class _Run:
    """What one run tells; lists are bounded, numbers are not."""

    def __init__(self, terminal: Terminal, *, listing: bool) -> None:
        self._terminal = terminal
        self._listing = listing
        self._now = time.time()
        self._found: list[Waste] = []
        self._failures: list[tuple[Waste, str]] = []

    def told(self, waste: Waste) -> None:
        if self._listing and len(self._found) < _SHOWN:
            self._found.append(waste)

    def failed(self, waste: Waste, error: Dedup2DError) -> None:
        self._terminal.warn(f"{waste.kind} {visible(waste.name)}: {visible(str(error))}")
        if len(self._failures) < _SHOWN:
            self._failures.append((waste, str(error)))

    def report(self, garbage: Garbage, *, json: bool, complete: bool, seconds: float) -> None:
        if json:
            self._terminal.json(self._document(garbage, complete=complete, seconds=seconds))
            return
        if not garbage.dry_run:
            self._terminal.line(f"deleted {_summary(garbage)} in {seconds:.1f} s")
            return
        if self._found:
            self._terminal.table(_COLUMNS, map(self._row, self._found))
        more = _found(garbage) - len(self._found)
        hidden = f" ({more:,} are not shown)" if more > 0 else ""
        self._terminal.note(f"would delete {_summary(garbage)}{hidden}")

    def _row(self, waste: Waste) -> tuple[str, str, str, str]:
        hours = max(0.0, self._now - waste.created_at) / 3600
        return waste.kind, str(waste.size), f"{hours:.1f} h", waste.name

    def _document(self, garbage: Garbage, *, complete: bool, seconds: float) -> dict[str, Any]:
        return {
            "dry_run": garbage.dry_run,
            "jobs": garbage.jobs,
            "files": garbage.files,
            "half_uploads": garbage.half_uploads,
            "geometries": garbage.geometries,
            "leftovers": garbage.leftovers,
            "bytes": garbage.bytes,
            "failed": garbage.failures,
            "found": [asdict(waste) for waste in self._found],
            "failures": [{**asdict(waste), "reason": reason} for waste, reason in self._failures],
            "complete": complete,
            "seconds": round(seconds, 3),
        }


def _found(garbage: Garbage) -> int:
    return garbage.files + garbage.half_uploads + garbage.geometries + garbage.leftovers


def _summary(garbage: Garbage) -> str:
    return (
        f"{counted(garbage.jobs, 'expired job')}, {counted(garbage.files, 'file')},"
        f" {counted(garbage.half_uploads, 'half upload')},"
        f" {counted(garbage.geometries, 'geometry', 'geometries')}, {counted(garbage.leftovers, 'leftover')}"
        f" ({garbage.bytes:,} bytes)"
    )
