"""Makes the fingerprints of an index anew from its ink pictures, while searches go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio.to_thread

from dedup2d.children import Children
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.extract import refingerprint
from dedup2d.engine.records import Vector
from dedup2d.errors import Dedup2DError, UnreadableDrawingError
from dedup2d.types import RebuildResult
from dedup2d.vision.answers import counted
from dedup2d.vision.learned import Learned

__all__ = ["Rebuilding"]

_BATCH = 8


class Rebuilding:
    """
    One pass over an index, a few drawings at a time and with one child only.

    It stores each batch as it goes: cut short, it has done part of the work and harmed nothing.
    """

    def __init__(self, children: Children, *, seconds: float, learned: Learned | None = None) -> None:
        self._children = children
        self._seconds = seconds
        self._learned = learned
        self._made = self._failed = 0
        self._unlearned = ""

    @property
    def result(self) -> RebuildResult:
        """What has been done so far."""
        trouble = f"; the pictures of {self._failed} are damaged: index them again" if self._failed else ""
        return RebuildResult(
            message=f"fingerprints of {counted(self._made, 'drawing')} made anew{trouble}{self._unlearned}",
            drawings=self._made,
            success=not (self._failed or self._unlearned),
        )

    async def run(self, catalogue: Catalogue) -> None:
        """Renew all fingerprints; what is added meanwhile is new anyway."""
        last = 0
        while keys := await _keys_after(catalogue, last):
            await self._renew(catalogue, keys)
            last = keys[-1]

    async def _renew(self, catalogue: Catalogue, keys: Sequence[int]) -> None:
        pictures = await anyio.to_thread.run_sync(catalogue.pictures, keys)
        found = await self._refingerprint(tuple(pictures.values()))
        made = {key: data for key, data in zip(pictures, found, strict=True) if data is not None}
        vectors = await self._learn(catalogue, {key: pictures[key] for key in made})
        self._made += await anyio.to_thread.run_sync(catalogue.replace_fingerprints, made, vectors)
        self._failed += len(pictures) - len(made)

    async def _learn(self, catalogue: Catalogue, pictures: Mapping[int, bytes]) -> dict[int, Vector]:
        """Make the vectors that the model of this engine has not made yet; once it failed, none any more."""
        if self._learned is None or self._unlearned:
            return {}
        digest = self._learned.model.digest
        keys = await anyio.to_thread.run_sync(catalogue.without_vector, list(pictures), digest)
        try:
            found = await self._learned.vectors([pictures[key] for key in keys])
        except Dedup2DError as error:
            self._unlearned = f"; learned embeddings were not all made: {error}"
            return {}
        return {key: one for key, one in zip(keys, found, strict=True) if one}

    async def _refingerprint(self, inks: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
        try:
            return await self._children.call(
                refingerprint, inks, seconds=self._seconds, name="a stored picture"
            )
        except UnreadableDrawingError:
            if len(inks) == 1:
                return (None,)
        # One of them killed the child: the others must not suffer for it.
        return tuple([(await self._refingerprint((ink,)))[0] for ink in inks])


async def _keys_after(catalogue: Catalogue, key: int) -> list[int]:
    return await anyio.to_thread.run_sync(lambda: catalogue.keys_after(key, limit=_BATCH))
