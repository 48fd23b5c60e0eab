"""All keys of a service: those of the environment and those that are stored."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from secrets import token_bytes
from types import TracebackType
from typing import Any, Self

from attrs import frozen

from dedup2d.errors import ConfigurationError, UnreadableRecordError
from dedup2d.keys.environment import EnvironmentKeys
from dedup2d.keys.memory import MemoryKeyStore
from dedup2d.keys.principal import Principal
from dedup2d.keys.records import KeySecrets, KeyState, StoredKey
from dedup2d.keys.store import KeyStore
from dedup2d.keys.text import read_key
from dedup2d.paging import MAX_PAGE

__all__ = ["KeyRing", "KeyRingOptions"]

_log = logging.getLogger("dedup2d.keys")


@frozen(kw_only=True)
class KeyRingOptions:
    """
    Args:
        fresh_seconds: how long a stored key is believed without another look: so late a revocation works.
        met_seconds: how long a key counts as met after it was last used.
        most: keys that are remembered at once.
    """

    fresh_seconds: float = 2.0
    met_seconds: float = 3600.0
    most: int = 10_000


@frozen
class _Known:
    key: StoredKey
    looked_at: float


class KeyRing:
    """
    Finds out whose a key is. An async context manager, which enters *store*.

    Keys that are right are remembered for a short time, by a hash under a secret of this process; what is
    wrong is looked up every time, so that a new key works at once.

    Args:
        given: keys of the environment, with the tenant or the principal that each belongs to.
        store: keys that come and go while the service runs.
        secrets: gives what stored keys are hashed with; asked again for a key that none fits.
        clock: gives Unix seconds.
        monotonic: gives seconds that only grow.

    Raises (when entered):
        ConfigurationError: there are stored keys, and none of the secrets fits any.
    """

    def __init__(
        self,
        given: Mapping[str, str | Principal],
        *,
        store: KeyStore | None = None,
        secrets: Callable[[], KeySecrets] = lambda: KeySecrets(()),
        options: KeyRingOptions | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given = EnvironmentKeys(given)
        self._store: KeyStore = MemoryKeyStore() if store is None else store
        self._load_secrets = secrets
        self._secrets = KeySecrets(())
        self._options = options or KeyRingOptions()
        self._clock = clock
        self._monotonic = monotonic
        self._salt = token_bytes(32)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._met: OrderedDict[bytes, float] = OrderedDict()
        self._needed = bool(self._given)
        self._asked_at: float | None = None

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        try:
            self._secrets = self._load_secrets()
            if await self._store.used():
                self._needed = True
                await self._check_secrets()
        except BaseException:
            await self._store.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._store.__aexit__(exc_type, exc, traceback)

    async def needed(self) -> bool:
        """
        Whether requests need a key: for ever, once there has been one.

        Raises:
            StoreUnavailableError: that cannot be told now.
        """
        now = self._monotonic()
        if not self._needed and (
            self._asked_at is None or now - self._asked_at >= self._options.fresh_seconds
        ):
            self._needed = await self._store.used()
            self._asked_at = now
        return self._needed

    async def find(self, text: str) -> Principal | None:
        """
        Return whose the key *text* is; None if nobody's, or expired, or revoked.

        Raises:
            StoreUnavailableError: that cannot be told now.
        """
        found = self._given.find(text.encode(errors="replace"))
        if found is None:
            key_id = read_key(text)
            found = None if key_id is None else await self._stored(key_id, text)
        if found is None:
            self._met.pop(self._mark(text), None)
        else:
            self._remember_meeting(text)
        return found

    def met(self, text: str) -> bool:
        """Whether the key *text* was right not long ago: who sends it is no stranger who guesses."""
        last = self._met.get(self._mark(text))
        return last is not None and self._monotonic() - last < self._options.met_seconds

    async def _stored(self, key_id: str, text: str) -> Principal | None:
        mark, now = self._mark(text), self._monotonic()
        known = self._known.get(mark)
        if known is None or now - known.looked_at >= self._options.fresh_seconds:
            key = await self._look_up(key_id, text)
            if key is None:
                self._known.pop(mark, None)
                return None
            known = self._known[mark] = _Known(key, now)
            _drop_oldest(self._known, self._options.most)
        return known.key.principal if known.key.state(self._clock()) is KeyState.ACTIVE else None

    async def _look_up(self, key_id: str, text: str) -> StoredKey | None:
        try:
            key = await self._store.get(key_id)
        except UnreadableRecordError:
            _log.exception("a key cannot be read: it is refused", extra={"key_id": key_id})
            return None
        if key is None:
            return None
        if key.secret_id not in self._secrets:
            self._reload_secrets()
        if key.secret_id not in self._secrets:
            _log.error(
                "a key was made with a secret that is not known here: it is refused; see DEDUP2D_KEYS_SECRET",
                extra={"key_id": key_id},
            )
        return key if self._secrets.fits(key, text) else None

    def _reload_secrets(self) -> None:
        try:
            self._secrets = self._load_secrets()
        except ConfigurationError:
            _log.exception("the secret of the keys cannot be read: those made with it are refused")

    async def _check_secrets(self) -> None:
        """Tell at the start, not by 401 for everybody, that the secret is another than the keys'."""
        page = await self._store.list(limit=MAX_PAGE)
        active = [key for key in page.keys if key.state(self._clock()) is KeyState.ACTIVE]
        strange = [key.key_id for key in active if key.secret_id not in self._secrets]
        if strange and len(strange) == len(active):
            raise ConfigurationError(
                "DEDUP2D_KEYS_SECRET",
                "***",
                "the secret that the stored keys were made with, the same on all machines (where it is not"
                " set, bring keys.secret in the data directory back from a backup)",
            )
        if strange:
            _log.warning(
                "keys were made with a secret that is not known here: they are refused;"
                " see DEDUP2D_KEYS_SECRET",
                extra={"key_ids": strange[:20], "count": len(strange)},
            )

    def _remember_meeting(self, text: str) -> None:
        mark = self._mark(text)
        self._met[mark] = self._monotonic()
        self._met.move_to_end(mark)
        _drop_oldest(self._met, self._options.most)

    def _mark(self, text: str) -> bytes:
        return hmac.new(self._salt, text.encode(errors="replace"), hashlib.sha256).digest()


def _drop_oldest(found: OrderedDict[bytes, Any], most: int) -> None:
    while len(found) > most:
        found.popitem(last=False)
