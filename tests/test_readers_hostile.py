"""
Every hostile file, read in a child with limits: a clear error or a sheet, soon, within bounded memory.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from dedup2d.children import Children
from dedup2d.errors import Dedup2DError
from dedup2d.readers import ReadLimits, Sheet, read
from tests import hostile

pytestmark = pytest.mark.anyio

SECONDS = 20.0
RESIDENT_MIB = 900


@pytest.fixture(params=hostile.CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> hostile.Case:
    return request.param


def read_and_weigh(path: Path, name: str) -> tuple[list[Sheet], int]:
    sheets = read(path, name, ReadLimits())
    # unlike getrusage's, this peak does not count what the parent had when the child was made
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return sheets, int(peak[1]) // 1024


async def outcome(path: Path) -> tuple[list[Sheet], int] | Dedup2DError:
    async with Children(processes=1) as children:
        try:
            return await children.call(read_and_weigh, path, path.name, seconds=SECONDS, name=path.name)
        except Dedup2DError as error:
            return error


async def test_a_hostile_file_ends_in_its_error_or_in_a_sheet(case: hostile.Case, tmp_path: Path) -> None:
    """If this fails, one bad file can stop an index run, or tells its sender nothing of use."""
    path = case.make(tmp_path)
    start = time.monotonic()
    result = await outcome(path)

    assert time.monotonic() - start < SECONDS
    if case.error is not None:
        assert type(result) is case.error, result
        assert case.words in str(result)
        assert path.name in str(result)
        assert str(tmp_path) not in str(result)
        return
    assert not isinstance(result, Dedup2DError), result
    sheets, resident = result
    assert resident < RESIDENT_MIB
    assert all(sheet.raster.dtype == np.uint8 and max(sheet.raster.shape) <= 2000 for sheet in sheets)
    assert case.words in " ".join(" ".join(sheet.warnings) for sheet in sheets)
