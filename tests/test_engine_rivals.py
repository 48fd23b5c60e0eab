"""Siblings are told apart where they differ, whatever a fax or a scan has left of the query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dedup2d.engine.clean import decode_ink
from dedup2d.engine.extract import tell_apart
from dedup2d.engine.fingerprint import fingerprint
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.records import Likeness
from dedup2d.engine.rivals import CLEAR, Outcome, Rival, contest
from dedup2d.engine.verify import verify_prepared
from dedup2d.protocols import DrawingFile
from dedup2d.testing.plans import drawing_file
from dedup2d.types import Relation, SearchParams
from dedup2d.vision.embedded import EmbeddedVision
from tests.engine_sheets import Grey, part

TEXT = (430, 400)
"""Where the siblings say how long they are."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def sibling(length: str) -> Grey:
    page = part(5)
    page[375:410, 425:560] = 255
    cv2.putText(page, length, TEXT, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0,), 2)
    return page


def fax(page: Grey) -> Grey:
    small = cv2.resize(page, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.where(small < 200, 0, 255).astype(np.uint8)


def scan(page: Grey) -> Grey:
    turned = cv2.warpAffine(
        page, cv2.getRotationMatrix2D((700, 450), 2, 1), page.shape[::-1], borderValue=(255,)
    )
    noise = np.random.default_rng(3).normal(0, 5, page.shape)
    return np.clip(40 + 0.75 * cv2.GaussianBlur(turned, (0, 0), 1.2) + noise, 0, 255).astype(np.uint8)


def likeness(page: Grey) -> Likeness:
    made, ink = fingerprint(page)
    return Likeness(fingerprint=made.to_bytes(), ink=ink)


def prepared(page: Grey) -> Prepared:
    made, ink = fingerprint(page)
    return Prepared(made, decode_ink(ink))


def outcome(query: Grey, *rivals: Grey, ignore: tuple[tuple[int, int, int, int], ...] = ()) -> Outcome:
    seen = prepared(query)
    found = []
    for page in rivals:
        sheet = prepared(page)
        evidence = verify_prepared(seen, sheet)
        assert evidence is not None
        found.append(Rival(sheet, evidence.placement))
    return contest(seen, found, ignore)


@pytest.mark.parametrize("spoilt", [fax, scan])
@pytest.mark.parametrize("shown", range(3))
def test_the_one_that_is_shown_leads_all_others(spoilt: Callable[[Grey], Grey], shown: int) -> None:
    """If this fails, a fax of one part is answered with its sibling."""
    pages = [sibling("1024"), sibling("1004"), sibling("1034")]
    found = outcome(spoilt(pages[shown]), *pages)
    assert found.best == shown
    assert found.leads[shown] == 0
    assert all(lead >= CLEAR for number, lead in enumerate(found.leads) if number != shown)


def test_what_cannot_be_told_apart_stays_in_its_order() -> None:
    """If this fails, chance decides between copies of one drawing."""
    query, page = fax(sibling("1024")), sibling("1024")
    assert outcome(query, page, page.copy()) == Outcome(0, (0.0, 0.0), (False, False))
    blank = query.copy()
    blank[180:210, 205:285] = 255  # the query says nothing of the length
    assert abs(outcome(blank, sibling("1004"), page).leads[1]) < CLEAR


def test_ignored_ink_decides_nothing() -> None:
    """If this fails, what the caller wants left out still says which sibling is found."""
    query = fax(sibling("1024"))
    everywhere = (0, 0, query.shape[1], query.shape[0])
    assert outcome(query, sibling("1004"), sibling("1024"), ignore=(everywhere,)).leads == (0.0, 0.0)


def test_damaged_data_decide_nothing() -> None:
    """If this fails, one damaged drawing makes searches fail."""
    good = likeness(sibling("1024"))
    damaged = Likeness(fingerprint=good.fingerprint, ink=b"no picture")
    assert tell_apart(good, ((damaged, None), (good, None))) == Outcome(0, (0.0, 0.0), (False, False))


@pytest.mark.parametrize("shown", ["1024", "1004"])
async def test_a_search_names_the_sibling_a_revision(tmp_path: Path, shown: str) -> None:
    """If this fails, two parts are called duplicates of one query, which shows one of them."""
    async with EmbeddedVision(tmp_path, processes=1) as vision:
        for length in ("1024", "1004"):
            await vision.add("tenant", drawing_file(png(sibling(length)), f"{length}.png"))
        query = drawing_file(png(fax(sibling(shown))), "query.png")
        found = await vision.search("tenant", query, SearchParams(similar_threshold=0))
    best, other = sorted((*found.duplicates, *found.similar), key=lambda match: -match.similarity)
    assert (best.file_name, best.relation) == (f"{shown}.png", Relation.IDENTICAL)
    assert other.relation is Relation.REVISION
    assert other.reason.endswith("where it differs from the best match, yours is like that one.")
    assert await names(tmp_path, query, SearchParams(similar_threshold=0.945)) == [f"{shown}.png"]


async def names(index: Path, query: DrawingFile, params: SearchParams) -> list[str]:
    async with EmbeddedVision(index, processes=1) as vision:
        found = await vision.search("tenant", query, params)
    return [match.file_name for match in (*found.duplicates, *found.similar)]


def png(page: Grey) -> bytes:
    return cv2.imencode(".png", page)[1].tobytes()
