"""How a command ends: every error becomes one line on stderr and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from cyclopts import CycloptsError, UnknownCommandError

from dedup2d.cli.exits import Exit
from dedup2d.cli.terminal import Terminal
from dedup2d.cli.text import visible
from dedup2d.errors import Dedup2DError, InternalError, MissingExtraError

__all__ = ["ending"]

log = logging.getLogger("dedup2d.cli")


def ending(error: BaseException, terminal: Terminal, *, terminated: bool) -> int:
    """Say what *error* means, in one line, and return the exit code."""
    error = _cause(error)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Exit.OK
    if isinstance(error, KeyboardInterrupt):
        terminal.warn("terminated" if terminated else "interrupted")
        return Exit.TERMINATED if terminated else Exit.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _discard_output()
        return Exit.BROKEN_PIPE
    terminal.error(visible(_sentence(error)))
    if isinstance(error, InternalError) or not isinstance(error, CycloptsError | Dedup2DError | OSError):
        log.debug("the command failed", exc_info=error)
        return Exit.INTERNAL
    return Exit.ERROR


def _sentence(error: BaseException) -> str:
    if isinstance(error, UnknownCommandError):
        # Its own text would load every command to suggest one.
        given = error.unused_tokens[0] if error.unused_tokens else ""
        return f"there is no command {given!r}: see {_help_of(error)}"
    if isinstance(error, CycloptsError):
        return f"{' '.join(str(error).split())} (see {_help_of(error)})"
    if isinstance(error, Dedup2DError):
        return str(error)
    if isinstance(error, OSError):
        named = isinstance(error.filename, str | bytes)
        return f"{os.fsdecode(error.filename)}: {_said(error)}" if named else _said(error)
    return f"this is a bug of dedup2d, please report it: {error!r}"


def _help_of(error: CycloptsError) -> str:
    return " ".join(("dedup2d", *(error.command_chain or ()), "--help"))


def _said(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()


def _cause(error: BaseException) -> BaseException:
    """Take an error out of what tasks and the loading of commands wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ImportError) and not isinstance(error, Dedup2DError):
        within = error.__cause__
        if isinstance(within, Dedup2DError):
            return within
        missing = getattr(within, "name", None) or error.name or ""
        if missing and missing.partition(".")[0] not in {"dedup2d", "dedup2d_http", "dedup2d_worker"}:
            extra = "http" if "dedup2d_http" in str(error) else "engine"
            return MissingExtraError(extra, f"this command (it lacks {missing})")
    return error


def _discard_output() -> None:
    # Python flushes stdout when it exits and would complain once more.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
