"""Runs the command, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from dedup2d.cli import main

__all__ = ["Done", "command", "environment", "run", "run_process"]


@frozen
class Done:
    """What a run of the command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The piped table without its header."""
        return [line.split("\t") for line in self.out.splitlines()[1:]]


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """Run the command in this process."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return Done(code, captured.out, captured.err)


def command(*arguments: str | Path) -> list[str]:
    """Return the words that start the command as a process."""
    return [sys.executable, "-m", "dedup2d", *map(str, arguments)]


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """Return an environment in which the command keeps its data in *data_dir*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEDUP2D_")}
    return {**kept, "DEDUP2D_DATA_DIR": str(data_dir), **variables}


def run_process(arguments: Sequence[str | Path], data_dir: Path, **variables: str) -> Done:
    """Run the command as a process of its own, its output into pipes."""
    done = subprocess.run(
        command(*arguments),
        env=environment(data_dir, **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)
