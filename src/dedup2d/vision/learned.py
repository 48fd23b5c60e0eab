"""L3 of the embedded engine: vectors of a learned embedding, made in children, and what they are good for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import evolve

from dedup2d.children import Children
from dedup2d.engine.candidates import Candidate
from dedup2d.engine.embedding import Model, embed, open_model
from dedup2d.engine.records import SheetRecord, Vector
from dedup2d.errors import Dedup2DError, UnreadableDrawingError
from dedup2d.readers import ReadLimits

__all__ = ["NO_MODEL", "NO_VERIFICATION", "Learned", "lacking", "most_alike", "opened", "with_alike"]

NO_MODEL = "no model is set: enable_ml needs one in DEDUP2D_ML_MODEL, where the embedded engine runs"
NO_VERIFICATION = "enable_ml had no effect: nothing is verified in mode fast or without enable_geometric"

_BATCH = 8


async def opened(path: Path, limits: ReadLimits) -> Model:
    """
    Return what `open_model` says of the model at *path*, within the limits that children have later.

    Raises:
        MissingExtraError: the extra `ml` is not installed.
        ValueError: it is no model that can be used; says why.
        InternalError: no child could be started.
    """
    async with Children(processes=1, memory_bytes=limits.max_memory_bytes) as children:
        try:
            return await children.call(open_model, path, seconds=limits.max_seconds, name=path.name)
        except UnreadableDrawingError as error:
            raise ValueError(f"cannot be used: {error.reason}") from error


class Learned:
    """A model that children ask for vectors, each call for a few pictures and *seconds* at most."""

    def __init__(self, model: Model, children: Children, *, seconds: float) -> None:
        self.model = model
        self._children = children
        self._seconds = seconds

    async def vectors(self, inks: Sequence[bytes]) -> list[Vector | None]:
        """
        Return the vector of each ink picture, None for one that is damaged.

        Raises:
            UnreadableDrawingError: the model failed, took too long or needs too much memory.
            InternalError: its file was changed, or no child could be started.
        """
        found: list[Vector | None] = []
        for start in range(0, len(inks), _BATCH):
            batch = tuple(inks[start : start + _BATCH])
            made = await self._children.call(
                embed, batch, self.model, seconds=self._seconds, name="a picture"
            )
            found += [None if data is None else Vector(self.model.digest, data) for data in made]
        return found

    async def taught(self, sheets: Sequence[SheetRecord]) -> tuple[tuple[SheetRecord, ...], list[str]]:
        """Return the sheets with their vectors, or without and a warning: L3 is no reason to refuse any."""
        try:
            vectors = await self.vectors([sheet.ink for sheet in sheets])
        except Dedup2DError as error:
            return tuple(sheets), [f"no learned embedding was made: {_reason(error)}"]
        return tuple(evolve(sheet, vector=one) for sheet, one in zip(sheets, vectors, strict=True)), []

    async def vector(self, ink: bytes) -> tuple[bytes | None, list[str]]:
        """Return the vector of a query, or none and a warning."""
        try:
            (found,) = await self.vectors([ink])
        except Dedup2DError as error:
            return None, [f"enable_ml had no effect: {_reason(error)}"]
        return found.data if found else None, []


def with_alike(candidates: Sequence[Candidate], alike: Mapping[int, float]) -> list[Candidate]:
    """Return the candidates with their likeness, and then the alike drawings that are not among them."""
    named = {one.key for one in candidates}
    known = [evolve(one, l3=alike.get(one.key)) for one in candidates]
    return known + [Candidate(key=key, l3=score) for key, score in alike.items() if key not in named]


def most_alike(candidates: Sequence[Candidate], chosen: Sequence[Candidate], most: int) -> list[Candidate]:
    """Return those that L3 speaks for and that nothing else has chosen, the most alike first."""
    known = {one.key for one in chosen}
    others = [one for one in candidates if one.key not in known and one.l3]
    return sorted(others, key=lambda one: (-(one.l3 or 0), one.key))[:most]


def lacking(drawings: int, known: int) -> list[str]:
    """Return the warning that some drawings have no vector of the model that is set."""
    if known >= drawings:
        return []
    without = f"{drawings - known} of {drawings} drawings have no vector of the model that is set"
    return [f"{without}: enable_ml does not find them until the index is rebuilt"]


def _reason(error: Dedup2DError) -> str:
    return error.reason if isinstance(error, UnreadableDrawingError) else str(error)
