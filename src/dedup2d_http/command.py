"""
`dedup2d serve`: the command that this package adds to the library's (entry point `dedup2d.commands`).
"""

from __future__ import annotations

import os
import secrets
import shlex
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import anyio
from attrs import evolve
from cyclopts import Parameter, validators

from dedup2d.cli.index import fill, summary
from dedup2d.cli.indexing import Tally
from dedup2d.cli.options import DataDir, MetricsHost, MetricsPort, Quiet, load_settings, with_metrics
from dedup2d.cli.terminal import Terminal
from dedup2d.cli.text import visible
from dedup2d.errors import ConfigurationError
from dedup2d.settings import Settings
from dedup2d_http.logs import configure_logging
from dedup2d_http.server import leave, run

__all__ = ["demo_key", "serve"]

_SAMPLE_PARTS = 3
_LEAST_KEY = 16


def serve(
    *,
    host: Annotated[
        str | None, Parameter(help="Address to listen on. [default: $DEDUP2D_HOST, else 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        Parameter(
            help="Port to listen on; 0 takes a free one. [default: $DEDUP2D_PORT, else 8000]",
            validator=validators.Number(gte=0, lte=65535),
        ),
    ] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    samples: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Generate sample drawings, index them, make a key, and show what to try.",
        ),
    ] = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> None:
    """
    Start the service, with samples if you like; Ctrl-C or SIGTERM stops it.

    Searches the index that `dedup2d index` fills. Jobs that run when it stops go on at the next start.
    Everything else is set by the environment: see the settings in the documentation.
    """
    terminal = Terminal(quiet=quiet)
    settings = with_metrics(load_settings(data_dir), metrics_port, metrics_host)
    settings = evolve(
        settings,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
    )
    if samples:
        folder, (settings, key) = _fill_with_samples(settings, terminal), _with_key(settings)
    configure_logging(level=settings.log_level, form=settings.log_format)

    def ready(url: str) -> None:
        if samples:
            _introduce(terminal, url, key, folder)
        else:
            terminal.note(f"dedup2d is ready at {url}")

    run(settings, on_ready=ready)
    leave()


def _fill_with_samples(settings: Settings, terminal: Terminal) -> Path:
    from dedup2d.samples import generate  # noqa: PLC0415 - behind the extra of the engine

    folder = settings.data_dir / "samples"
    # The manifest is written last: without it a run before this one was cut short.
    if not (folder / "manifest.jsonl").exists():
        terminal.note("generating sample drawings ...")
        generate(folder, parts=_SAMPLE_PARTS, overwrite=True)
    terminal.note(f"indexing {visible(str(folder))} ...")
    tally = Tally()
    anyio.run(fill, settings, [folder], tally, terminal)
    terminal.note(summary(tally))
    return folder


def _with_key(settings: Settings) -> tuple[Settings, str]:
    """Return settings that have a key, and what to show of it: nobody's own key is printed."""
    if settings.api_keys:
        return settings, ""
    key = demo_key(settings.data_dir)
    return evolve(settings, api_keys={key: settings.tenant}), key


def demo_key(data_dir: Path) -> str:
    """
    Return the key kept in *data_dir*, made at the first call; only the owner can read it.

    Raises:
        ConfigurationError: what is kept there is not a key.
    """
    path = data_dir / "demo-key"
    data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_once(path, secrets.token_urlsafe(24))
    key = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(key) < _LEAST_KEY or not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            str(path),
            "***",
            f"a key of at least {_LEAST_KEY} characters, or delete the file to get a new one",
        )
    return key


def _write_once(path: Path, text: str) -> None:
    """Write the file whole and unreadable for others, unless another process was faster."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".demo-key-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _introduce(terminal: Terminal, url: str, key: str, folder: Path) -> None:
    scan = min(folder.glob("*_scan.*"))
    shown = key or "$KEY"
    quote = '"' if not key else "'"
    terminal.line(f"\ndedup2d is ready at {url} (Ctrl-C stops it)")
    if key:
        terminal.line(f"key: {key} (kept in {visible(str(folder.parent / 'demo-key'))})")
    else:
        terminal.line("key: one of DEDUP2D_API_KEYS; put it into KEY for the line below")
    terminal.line("\nHas this scan been drawn before? Try:\n")
    terminal.line(
        f"  curl -sS -H {quote}X-API-Key: {shown}{quote} -F {shlex.quote(f'file=@{scan}')}"
        f" '{url}/api/v1/dedup/2d/search?max_results=5&compute_diff=false'\n"
    )
