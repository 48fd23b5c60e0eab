"""The secret of the keys of one machine, in a file of the data directory."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from dedup2d.errors import ConfigurationError

__all__ = ["LEAST_SECRET", "make_secret", "read_secret"]

LEAST_SECRET = 32
_NAME = "keys.secret"


def read_secret(data_dir: Path) -> bytes | None:
    """
    Return the secret kept in *data_dir*, None if there is none yet.

    Raises:
        ConfigurationError: everybody can read it, or it is not one.
    """
    path = data_dir / _NAME
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise ConfigurationError(str(path), "***", f"a file that can be read ({reason})") from None
    if mode & stat.S_IRWXO:
        raise ConfigurationError(
            str(path), oct(stat.S_IMODE(mode)), "mode 0600 (chmod 600): others may use it"
        )
    if len(text) < LEAST_SECRET:
        raise ConfigurationError(
            str(path), "***", f"at least {LEAST_SECRET} characters: bring it back from a backup"
        )
    return text


def make_secret(data_dir: Path) -> bytes:
    """
    Return the secret kept in *data_dir*, made at the first call; only the owner can read it.

    Raises:
        ConfigurationError: as `read_secret`; or it cannot be written.
    """
    found = read_secret(data_dir)
    if found is None:
        try:
            _write_once(data_dir / _NAME, secrets.token_hex(32))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigurationError(
                "DEDUP2D_DATA_DIR", str(data_dir), f"a directory to write to ({reason})"
            ) from None
        found = read_secret(data_dir)
    assert found is not None
    return found


def _write_once(path: Path, text: str) -> None:
    """Write the file whole, flushed, and unreadable for others, unless another process was faster."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".keys-secret-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            _give_to_owner(file.fileno(), path.parent)
            os.fsync(file.fileno())  # a key that is hashed with it must not outlive it
        with suppress(FileExistsError):
            os.link(name, path)
        _flush_directory(path.parent)
    finally:
        Path(name).unlink()


def _give_to_owner(descriptor: int, directory: Path) -> None:
    """Let the service read what root has made for it: it runs as the owner of its directory."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
