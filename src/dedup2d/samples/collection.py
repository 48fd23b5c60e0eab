"""Makes a folder of drawings: for each part its original and everything that became of it."""

from __future__ import annotations

import json
import os
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, define, evolve, frozen

from dedup2d.errors import InvalidParameterError
from dedup2d.samples import copies
from dedup2d.samples.drafting import Draft, Drawn, draw, raster
from dedup2d.samples.parts import KINDS, make_part, revise, vary
from dedup2d.samples.sheets import COMPANIES
from dedup2d.types import Relation

__all__ = ["MANIFEST", "Sample", "generate"]

MANIFEST = "manifest.jsonl"
PAIRS = "natural_pairs.jsonl"
MAX_PARTS = 1000
_LONG_SIDE = 2000  # pixels of pictures, as most viewers and exports give


@frozen(kw_only=True)
class Sample:
    """
    One generated file and the truth about it.

    Args:
        id: unique in the folder, such as `p003-scan`.
        path: where the file lies.
        part: number of the part, from 0.
        relation: how it is related to the part's original; None for the original itself.
        transform: what was done to the original: `revision`, `scan`, `turn90`, ...
        original: id of the original.
        format: `dxf`, `pdf`, `png` or `tiff`.
        kind: what the part is: `flange`, ...
        company: whose frame it has.
        doc_group: the same for files that show one drawing, revisions included.
        note: what changed, in words; may be empty.
    """

    id: str
    path: Path
    part: int
    relation: Relation | None
    transform: str
    original: str
    format: str
    kind: str
    company: str
    doc_group: str
    note: str = ""


@frozen(kw_only=True)
class _Plan:
    """A file still to be made."""

    sample: Sample
    make: Callable[[], bytes]


def generate(directory: Path, *, seed: int = 0, parts: int = 6, overwrite: bool = False) -> list[Sample]:
    """
    Write drawings of *parts* parts into *directory*, with `manifest.jsonl` and `natural_pairs.jsonl`.

    The same seed gives the same files, byte for byte, with the same versions of the libraries
    beneath and the same fonts installed (texts are measured with them). Of each part there are its
    original (DXF, PDF, PNG), an exact copy, two revisions, two variants, mirrored and re-framed
    copies, a scan, a photocopy, a turned copy and a detail.

    Args:
        directory: made if it is not there.
        seed: any integer; other seeds give other parts.
        parts: 1 to 1000; the kinds of part take turns.
        overwrite: replace files of the same names; without it nothing is written if one is there.

    Returns:
        what was written, in the order of the manifest.

    Raises:
        InvalidParameterError: *parts* is out of range, *directory* is a file or not writable, or
            would have files overwritten.
    """
    if not 1 <= parts <= MAX_PARTS:
        raise InvalidParameterError("parts", parts, f"a number from 1 to {MAX_PARTS}")
    plans = [plan for index in range(parts) for plan in _Family(directory, seed, index).plans()]
    _prepare(directory, [plan.sample.path.name for plan in plans] + [MANIFEST, PAIRS], overwrite=overwrite)
    try:
        for plan in plans:
            _write(plan.sample.path, plan.make())
        samples = [plan.sample for plan in plans]
        _write(directory / PAIRS, _lines(_pairs(samples)))
        _write(directory / MANIFEST, _lines(map(_manifest_row, samples)))
    except OSError as error:
        raise InvalidParameterError(
            "directory", directory, f"one that can be written ({error.strerror})"
        ) from error
    return samples


def _prepare(directory: Path, names: Sequence[str], *, overwrite: bool) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        present = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise InvalidParameterError(
            "directory", directory, f"a folder that can be made and read ({error.strerror})"
        ) from error
    taken = sorted(present.intersection(names))
    if taken and not overwrite:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise InvalidParameterError(
            "directory", directory, f"one without {taken[0]}{more}, or allow to overwrite"
        )


def _write(path: Path, data: bytes) -> None:
    """Write all or nothing; a symbolic link in the place is replaced, not followed."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _lines(rows: Iterator[dict[str, Any]] | map[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _manifest_row(sample: Sample) -> dict[str, Any]:
    row = asdict(sample)
    return {
        "id": sample.id,
        "source": "generated",
        "source_group": f"generated-{sample.kind}",
        "path": sample.path.name,
        "licence": "Apache-2.0",
        "quality": "real",
        "raw": sample.path.name,
        "render": sample.path.name if sample.format == "png" else None,
        "doc_group": sample.doc_group,
        "family": f"part{sample.part:03}",
        "at_head": True,
    } | {
        name: row[name]
        for name in ("format", "kind", "company", "part", "relation", "transform", "original", "note")
    }


def _pairs(samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """Give the natural pairs in the corpus's words: revision, format, resave."""
    words = {"revision": "revision", "format": "format", "copy": "resave"}
    for sample in samples:
        if sample.transform in words:
            yield {
                "type": words[sample.transform],
                "a": sample.original,
                "b": sample.id,
                "source_group": f"generated-{sample.kind}",
                "note": sample.note,
            }


@define(slots=False)
class _Family:
    """One part and its descendants; everything is chosen by seed and index alone."""

    directory: Path
    seed: int
    index: int

    def plans(self) -> Iterator[_Plan]:
        yield from self._originals()
        yield from self._redrawn()
        yield from self._pictures()

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}/{self.index}/{purpose}")  # noqa: S311 - samples, not secrets

    def _noise(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.seed}/{self.index}/{purpose}".encode()))

    @cached_property
    def draft(self) -> Draft:
        rng = self._rng("part")
        kind = tuple(KINDS)[self.index % len(KINDS)]
        return Draft(
            part=make_part(rng, kind, self._serial(0)),
            company=rng.randrange(len(COMPANIES)),
            size=rng.choice(("A4", "A3", "A3", "A2")),
            clerk=rng.randrange(40),
        )

    def _serial(self, offset: int) -> int:
        return 1000 + 100 * (self.seed % 50) + 4 * self.index + offset

    @cached_property
    def drawn(self) -> Drawn:
        return draw(self.draft)

    def _dxf(self) -> bytes:
        return self.drawn.dxf()

    @cached_property
    def pdf(self) -> bytes:
        return self.drawn.pdf()

    @cached_property
    def picture(self) -> copies.Picture:
        return raster(self.pdf, long_side=_LONG_SIDE)

    def _plan(
        self,
        tag: str,
        suffix: str,
        make: Callable[[], bytes],
        *,
        draft: Draft | None = None,
        relation: Relation | None = Relation.IDENTICAL,
        transform: str | None = None,
        mark: str | None = None,
        own_group: bool = False,
        note: str = "",
    ) -> _Plan:
        draft = draft or self.draft
        label = "" if mark == "" else f"_{mark or tag}"
        sample = Sample(
            id=f"p{self.index:03}-{tag}",
            path=self.directory / f"{draft.number}{label}.{suffix}",
            part=self.index,
            relation=relation,
            transform=transform or tag,
            original=f"p{self.index:03}-original",
            format="tiff" if suffix == "tif" else suffix,
            kind=draft.part.kind,
            company=COMPANIES[draft.company].name,
            doc_group=f"p{self.index:03}-{tag}" if own_group else f"p{self.index:03}",
            note=note,
        )
        return _Plan(sample=sample, make=make)

    def _originals(self) -> Iterator[_Plan]:
        yield self._plan("original", "dxf", self._dxf, relation=None, mark="")
        yield self._plan("pdf", "pdf", lambda: self.pdf, transform="format", mark="")
        yield self._plan("png", "png", lambda: copies.png(self.picture), transform="format", mark="")
        yield self._plan("copy", "dxf", self._dxf, relation=Relation.EXACT, mark="copy")

    def _redrawn(self) -> Iterator[_Plan]:
        rng = self._rng("redrawn")
        draft = evolve(self.draft, base=self.draft.part)
        for letter, dxf in zip("BC", rng.sample((True, False), 2), strict=True):
            part, words = revise(draft.part, rng)
            draft = evolve(draft, part=part, revisions=(*draft.revisions, words))
            yield self._drawing(
                f"rev{letter}",
                draft,
                dxf=dxf,
                relation=Relation.REVISION,
                transform="revision",
                note=words[1],
            )
        for number in (1, 2):
            sibling = evolve(self.draft, part=vary(self.draft.part, rng, self._serial(number)))
            yield self._drawing(
                f"variant{number}",
                sibling,
                dxf=number == 1,
                relation=Relation.VARIANT,
                transform="variant",
                mark="",
                own_group=True,
            )
        if self.draft.part.handed:
            other = evolve(self.draft, mirrored=True)
            yield self._drawing(
                "opposite", other, dxf=False, relation=Relation.MIRRORED, mark="", own_group=True
            )
        part = evolve(self.draft.part, serial=self._serial(3))
        foreign = evolve(self.draft, part=part, company=1 - self.draft.company, clerk=self.draft.clerk + 5)
        yield self._drawing("reframed", foreign, dxf=rng.random() < 0.5, mark="")

    def _drawing(self, tag: str, draft: Draft, *, dxf: bool, **truth: Any) -> _Plan:
        if dxf:
            return self._plan(tag, "dxf", lambda: draw(draft).dxf(), draft=draft, **truth)
        return self._plan(tag, "pdf", lambda: draw(draft).pdf(), draft=draft, **truth)

    def _pictures(self) -> Iterator[_Plan]:
        rng = self._rng("pictures")
        if rng.random() < 0.5:
            yield self._plan("scan", "png", lambda: copies.png(self._scan(), dpi=150))
        else:
            yield self._plan("scan", "tif", lambda: copies.tiff_jpeg(self._scan(), dpi=150))
        yield self._plan("photocopy", "tif", self._photocopy)
        quarters = rng.randint(1, 3)
        yield self._plan(
            f"turn{90 * quarters}", "png", lambda: copies.png(copies.turn(self.picture, quarters))
        )
        yield self._plan(
            "flip", "png", lambda: copies.png(copies.flip(self.picture)), relation=Relation.MIRRORED
        )
        yield self._plan("detail", "png", self._detail, relation=Relation.PARTIAL)

    def _scan(self) -> copies.Picture:
        return copies.scan(self.picture, self._noise("scan"))

    def _photocopy(self) -> bytes:
        dpi = 200 if max(self.drawn.width, self.drawn.height) < 500 else 150
        long_side = round(max(self.drawn.width, self.drawn.height) / 25.4 * dpi)
        sharp = raster(self.pdf, long_side=long_side)
        return copies.tiff_g4(copies.photocopy(sharp, self._noise("photocopy")), dpi=dpi)

    def _detail(self) -> bytes:
        def size(box: tuple[float, float, float, float]) -> float:
            return (box[2] - box[0]) * (box[3] - box[1])

        box = max(self.drawn.boxes, key=size)
        return copies.png(copies.detail(self.picture, box, (self.drawn.width, self.drawn.height)))
