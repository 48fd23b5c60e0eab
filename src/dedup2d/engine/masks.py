"""Areas of a sheet that a search is to ignore, as boxes on its ink."""

from __future__ import annotations

from collections.abc import Sequence

from dedup2d.engine.layout import Box, Layout
from dedup2d.search_params import Area

__all__ = ["ignored_boxes", "inner_frame", "missing_places"]


def ignored_boxes(ignore: Sequence[Area | str], size: tuple[int, int], layout: Layout) -> tuple[Box, ...]:
    """
    Boxes in pixels of an ink picture of `size` (width, height) for areas and names.

    A name for which the sheet has nothing gives no box; see `missing_places`.
    """
    found: list[Box] = []
    for one in ignore:
        if isinstance(one, Area):
            found.append(_scaled(one, size))
        elif one == "frame":
            found += _around(layout, size)
        elif layout.title_block is not None:
            found.append(layout.title_block)
    return tuple(found)


def missing_places(ignore: Sequence[Area | str], layout: Layout) -> tuple[str, ...]:
    """Names in `ignore` for which the sheet has nothing."""
    parts = {"frame": layout.frame, "title_block": layout.title_block}
    return tuple(one for one in ignore if isinstance(one, str) and parts[one] is None)


def inner_frame(layout: Layout, size: tuple[int, int]) -> Box | None:
    """What lies inside the lines of the frame; None where there is no frame."""
    if layout.frame is None:
        return None
    x, y, width, height = layout.frame
    inset = max(3, max(size) // 250)
    return x + inset, y + inset, max(width - 2 * inset, 1), max(height - 2 * inset, 1)


def _scaled(area: Area, size: tuple[int, int]) -> Box:
    left, top = round(area.x * size[0]), round(area.y * size[1])
    right = min(round((area.x + area.width) * size[0]), size[0])
    bottom = min(round((area.y + area.height) * size[1]), size[1])
    return left, top, max(right - left, 1), max(bottom - top, 1)


def _around(layout: Layout, size: tuple[int, int]) -> list[Box]:
    """The four sides of the sheet, from its edge to the inside of the frame."""
    frame = inner_frame(layout, size)
    if frame is None:
        return []
    x, y, width, height = frame
    sides = [
        (0, 0, size[0], y),
        (0, y + height, size[0], size[1] - y - height),
        (0, y, x, height),
        (x + width, y, size[0] - x - width, height),
    ]
    return [side for side in sides if side[2] > 0 and side[3] > 0]
