"""Whether a directory that a setting names can be used, said before anything is started."""

from __future__ import annotations

import secrets
from pathlib import Path

from dedup2d.errors import ConfigurationError

__all__ = ["check_writable"]


def check_writable(directory: Path, variable: str) -> None:
    """
    Make the directory, for this user alone, if it is not there, and a file in it, which is deleted again.

    Raises:
        ConfigurationError: that cannot be done; it names the *variable* and the reason.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = directory / f".dedup2d-probe-{secrets.token_hex(8)}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(variable, str(directory), f"a directory to write to ({reason})") from None
