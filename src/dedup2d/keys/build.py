"""Builds what keeps keys, as the settings say."""

from __future__ import annotations

from dedup2d.errors import ConfigurationError
from dedup2d.keys.records import KeySecrets
from dedup2d.keys.ring import KeyRing
from dedup2d.keys.secret_file import make_secret, read_secret
from dedup2d.keys.store import KeyStore
from dedup2d.settings import Settings

__all__ = ["build_key_ring", "build_key_store", "key_secrets", "secrets_for_new_keys"]

# Each back end is loaded where it is built: its packages are behind an extra of their own.
# ruff: noqa: PLC0415 - its packages are behind an extra of their own

_HOW = (
    "the same secret of at least 32 characters on all machines, since DEDUP2D_ASYNC_BACKEND is redis"
    " (openssl rand -hex 32 makes one)"
)


def build_key_store(settings: Settings) -> KeyStore:
    """Return the store of keys, beside that of the jobs."""
    if settings.async_backend == "redis":
        from dedup2d.build import redis_options
        from dedup2d.keys.redis import RedisKeyStore

        return RedisKeyStore(redis_options(settings))
    from dedup2d.keys.sqlite import SQLiteKeyStore

    return SQLiteKeyStore(settings.data_dir / "keys.db")


def build_key_ring(settings: Settings) -> KeyRing:
    """Return all keys of a service."""
    return KeyRing(settings.api_keys, store=build_key_store(settings), secrets=lambda: key_secrets(settings))


def key_secrets(settings: Settings) -> KeySecrets:
    """
    Return the secrets that there are; none where no key was ever made.

    Raises:
        ConfigurationError: the file of the secret cannot be used.
    """
    given = [secret.encode() for secret in settings.keys_secret]
    # With Redis a file would be another on each machine.
    kept = None if settings.async_backend == "redis" else read_secret(settings.data_dir)
    return KeySecrets([*given, *([] if kept is None else [kept])])


async def secrets_for_new_keys(settings: Settings, store: KeyStore) -> KeySecrets:
    """
    Return the secrets, of which one is made if there is none yet and this is one machine.

    Raises:
        ConfigurationError: there is none, and none can be made up.
    """
    found = key_secrets(settings)
    if found:
        return found
    if settings.async_backend == "redis":
        raise ConfigurationError("DEDUP2D_KEYS_SECRET", "", _HOW)
    if await store.used():
        raise ConfigurationError(
            "DEDUP2D_KEYS_SECRET",
            "",
            "the secret of the keys that there are (keys.secret in the data directory is gone: bring it back"
            " from a backup), or to a new one: all earlier keys are then refused",
        )
    make_secret(settings.data_dir)
    return key_secrets(settings)
