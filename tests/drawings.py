"""
Small drawings for everybody's tests, as bytes, generated and cached.

`part` chooses the kind of part and `seed` its measures: the same pair is the same drawing in every
format; another pair is another drawing.
"""

from __future__ import annotations

import random
from functools import cache

from attrs import evolve

from dedup2d.samples import copies
from dedup2d.samples.drafting import Draft, Drawn, draw, raster
from dedup2d.samples.parts import KINDS, make_part, revise

__all__ = ["PARTS", "revised_png", "small_dxf", "small_pdf", "small_png", "small_svg", "small_tiff"]

PARTS = tuple(KINDS)
"""The kinds of part that can be asked for."""


@cache
def _draft(part: str, seed: int) -> Draft:
    rng = random.Random(f"{part}/{seed}")
    return Draft(part=make_part(rng, part, seed), company=seed % 2, size="A4", clerk=seed % 40)


@cache
def _drawn(part: str, seed: int) -> Drawn:
    return draw(_draft(part, seed))


@cache
def small_pdf(part: str = "flange", seed: int = 0) -> bytes:
    """Return a PDF of one page."""
    return _drawn(part, seed).pdf()


@cache
def small_dxf(part: str = "flange", seed: int = 0) -> bytes:
    """Return a DXF (R2010) with views, dimensions, hatches and a title block."""
    return _drawn(part, seed).dxf()


@cache
def small_png(part: str = "flange", seed: int = 0, *, long_side: int = 1000) -> bytes:
    """Return a grey PNG, black lines on white, *long_side* pixels wide."""
    return copies.png(raster(small_pdf(part, seed), long_side=long_side))


@cache
def revised_png(part: str = "flange", seed: int = 0, *, long_side: int = 1000) -> bytes:
    """Return a picture of the next revision of the drawing that `small_png` shows."""
    draft = _draft(part, seed)
    changed, words = revise(draft.part, random.Random(seed))
    later = evolve(draft, part=changed, base=draft.part, revisions=(words,))
    return copies.png(raster(draw(later).pdf(), long_side=long_side))


@cache
def small_tiff(part: str = "flange", seed: int = 0) -> bytes:
    """Return a 1-bit TIFF in group 4."""
    return copies.tiff_g4(raster(small_pdf(part, seed), long_side=1000), dpi=85)


@cache
def small_svg(part: str = "flange", seed: int = 0) -> bytes:
    """Return an SVG with the drawing's lines as paths."""
    return _drawn(part, seed).svg()
