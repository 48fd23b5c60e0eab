"""What a sheet is made of: frame, title block and views told apart, on pictures of any origin."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dedup2d.engine.clean import Picture, clean
from dedup2d.engine.layout import MAX_VIEWS, Box, Layout, find_layout
from dedup2d.readers import read
from dedup2d.samples import Sample, generate


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return generate(tmp_path_factory.mktemp("layout"), seed=5, parts=4)


def layouts(samples: list[Sample], *transforms: str) -> list[tuple[Sample, Picture, Layout]]:
    found = []
    for sample in samples:
        if sample.transform in transforms:
            ink = clean(read(sample.path, sample.id)[0].raster)
            found.append((sample, ink, find_layout(ink)))
    assert len(found) >= len(transforms)
    return found


def paper() -> Picture:
    return np.zeros((1400, 2000), np.uint8)


def rectangle(ink: Picture, box: Box, width: int = 3) -> None:
    x, y, across, down = box
    cv2.rectangle(ink, (x, y), (x + across, y + down), 255, width)


def part(ink: Picture, x: int, y: int, size: int = 300) -> None:
    """Draw a view: a plate with holes and a dimension below it."""
    rectangle(ink, (x, y, size, size), 2)
    for spot in (0.25, 0.75):
        cv2.circle(ink, (round(x + spot * size), y + size // 2), size // 8, 255, 2)
    cv2.line(ink, (x, y + size + 30), (x + size, y + size + 30), 255, 1)
    cv2.putText(ink, "120", (x + size // 2 - 20, y + size + 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 1)


def template(ink: Picture, box: Box) -> None:
    """Draw an inner border with a title block of four cells."""
    x, y, across, down = box
    rectangle(ink, box)
    left, top = x + round(across * 0.6), y + round(down * 0.85)
    for row in range(2):
        for column in range(2):
            width, height = (x + across - left) // 2, (y + down - top) // 2
            rectangle(ink, (left + column * width, top + row * height, width, height), 2)


def holds(outer: Box, inner: Box, slack: int = 15) -> bool:
    return (
        inner[0] >= outer[0] - slack
        and inner[1] >= outer[1] - slack
        and inner[0] + inner[2] <= outer[0] + outer[2] + slack
        and inner[1] + inner[3] <= outer[1] + outer[3] + slack
    )


def test_frame_title_block_and_views_are_told_apart() -> None:
    """Drawings in one template would look alike, and a view on another sheet would not be found."""
    ink = paper()
    rectangle(ink, (20, 20, 1960, 1360), 2)
    template(ink, (60, 60, 1880, 1280))
    part(ink, 200, 200)
    part(ink, 900, 250, 400)
    found = find_layout(ink)

    assert found.frame == pytest.approx((60, 60, 1880, 1280), abs=6)
    assert found.title_block == pytest.approx((1188, 1148, 752, 192), abs=12)
    assert len(found.views) == 2
    assert holds(found.views[0], (900, 250, 400, 430))
    assert holds(found.views[1], (200, 200, 300, 330))
    assert found.views[0][2] < 500


@pytest.mark.parametrize("degrees", [-1.5, 0.7, 1.5])
def test_a_scan_laid_askew_keeps_its_parts(degrees: float) -> None:
    """Most scans lie a little askew; their frame would count as a view."""
    ink = paper()
    template(ink, (160, 160, 1680, 1080))
    part(ink, 400, 300)
    turn = cv2.getRotationMatrix2D((1000, 700), degrees, 1)
    turned = cv2.warpAffine(ink, turn, (2000, 1400))
    found = find_layout(np.where(turned > 100, 255, 0).astype(np.uint8))

    assert found.frame == pytest.approx((160, 160, 1680, 1080), abs=15)
    assert found.title_block is not None
    assert len(found.views) == 1
    assert found.views[0][2] < 400


def test_a_drawing_within_a_larger_sheet_is_one_view() -> None:
    """A drawing that somebody placed on another sheet would be cut into pieces, or lost among others."""
    ink = paper()
    template(ink, (40, 40, 1920, 1320))
    template(ink, (240, 200, 900, 640))
    part(ink, 320, 280, 200)
    part(ink, 700, 280, 200)
    part(ink, 1400, 300)
    found = find_layout(ink)

    assert found.frame == pytest.approx((40, 40, 1920, 1320), abs=6)
    assert found.views[0] == pytest.approx((240, 200, 900, 640), abs=15)
    assert len(found.views) == 2


def test_a_sheet_without_frame_is_all_views() -> None:
    """A part drawn alone would be taken for a frame, and nothing would be left of it."""
    ink = paper()
    part(ink, 300, 300, 600)
    part(ink, 1300, 400)
    found = find_layout(ink)

    assert (found.frame, found.title_block, found.notes) == (None, None, ())
    assert len(found.views) == 2
    assert holds(found.views[0], (300, 300, 600, 630))


def test_texts_are_no_views() -> None:
    """Notes that a whole company writes on its sheets would be found on all of them."""
    ink = paper()
    rectangle(ink, (40, 40, 1920, 1320))
    part(ink, 1000, 300)
    for line in range(5):
        words = "unless otherwise stated all radii are 2"
        cv2.putText(ink, words, (120, 800 + 36 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    found = find_layout(ink)

    assert len(found.views) == 1
    (note,) = found.notes
    assert holds(note, (120, 800, 400, 130))


def test_nothing_comes_of_nothing() -> None:
    """A blank page would make every search fail."""
    assert find_layout(paper()) == Layout()
    assert find_layout(np.zeros((1, 1), np.uint8)) == Layout()
    everything = find_layout(np.full((700, 500), 255, np.uint8))
    assert len(everything.views) <= 1
    assert find_layout(np.full((3, 2000), 255, np.uint8)).frame is None


def test_there_are_few_views_and_all_lie_on_the_sheet() -> None:
    """Fingerprints would grow without bound, or a cut out view would be empty."""
    ink = paper()
    for x in range(50, 1950, 150):
        for y in range(50, 1350, 150):
            rectangle(ink, (x, y, 80, 80), 2)
    found = find_layout(ink)

    assert 1 <= len(found.views) <= MAX_VIEWS
    sizes = [across * down for _, _, across, down in found.views]
    assert sizes == sorted(sizes, reverse=True)
    assert all(x >= 0 and y >= 0 and x + w <= 2000 and y + h <= 1400 for x, y, w, h in found.views)


def test_views_of_samples_are_found_in_every_format_and_scan(samples: list[Sample]) -> None:
    """The same drawing would be segmented in another way by format, so that its views were not found."""
    found = layouts(samples, "original", "copy", "format", "scan", "photocopy", "reframed", "turn90")
    with_frame = [layout for _, _, layout in found if layout.frame is not None]
    with_title = [layout for _, _, layout in found if layout.title_block is not None]

    assert len(with_frame) >= 0.9 * len(found)
    assert len(with_title) >= 0.85 * len(found)
    # a view is neither all of the sheet nor are there none
    sound = [
        layout
        for _, ink, layout in found
        if layout.views and layout.views[0][2] * layout.views[0][3] < 0.6 * ink.size
    ]
    assert len(sound) >= 0.9 * len(found)


def test_the_same_picture_gives_the_same_layout(samples: list[Sample], tmp_path: Path) -> None:
    """Fingerprints of one drawing would differ by chance."""
    sample, ink, layout = layouts(samples, "scan")[0]
    path = tmp_path / "again.png"
    cv2.imwrite(str(path), 255 - ink)

    assert find_layout(clean(read(path, sample.id)[0].raster)) == layout
