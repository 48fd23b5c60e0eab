"""`dedup2d doctor`: whether everything that a service or worker needs is there."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import attrs

from dedup2d.cli.exits import Exit
from dedup2d.cli.options import DataDir, Json
from dedup2d.cli.session import run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.doctor import Finding, examine

__all__ = ["doctor"]

_COLUMNS = (Column("part"), Column("state"), Column("what was found", wraps=True))


def doctor(*, json: Json = False, data_dir: DataDir = None) -> int:
    """
    Check every setting and server that the environment names, without starting the service.

    Run it with the environment of the service or worker. Each line says what is well, or what to do.
    Exits with 0 if nothing is wrong, warnings aside, else with 2.
    """
    _hush()
    terminal = Terminal()
    directory = Path(data_dir).expanduser() if data_dir else None
    findings = run_async(lambda: examine(data_dir=directory))
    if json:
        terminal.json({"findings": [attrs.asdict(finding) for finding in findings]})
    else:
        terminal.table(_COLUMNS, [(one.part, one.state, one.text) for one in findings])
    return Exit.ERROR if any(_wrong(one) for one in findings) else Exit.OK


def _hush() -> None:
    """Say what was found in the table only, not in lines of a log too."""
    logging.getLogger("dedup2d").addHandler(logging.NullHandler())
    with suppress(ImportError):
        from stamina.instrumentation import set_on_retry_hooks  # noqa: PLC0415 - behind an extra

        set_on_retry_hooks(())


def _wrong(finding: Finding) -> bool:
    return finding.state == "error"
