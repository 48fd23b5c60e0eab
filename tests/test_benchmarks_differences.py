"""The measurement of differences: what is marked falsely, and what is found."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio
import numpy as np
import pytest

from benchmarks.corpus import generated
from benchmarks.differences import Marked, _measured, _places, _report

pytestmark = [pytest.mark.timeout(240), pytest.mark.once]


def test_copies_without_a_change_are_clean_and_revisions_are_found(tmp_path: Path) -> None:
    """If this fails, differences mark what nobody changed, or the measurement counts something else."""
    corpus = generated(tmp_path / "samples", parts=1, seed=0)
    options = argparse.Namespace(sheets=1, seed=0, processes=2, work=tmp_path)

    rows, failed = anyio.run(_measured, corpus, options)

    assert failed == []
    assert {row.transform for row in rows} >= {"scanned", "faxed", "revised"}
    assert all(row.unchanged > 1000 for row in rows)
    assert max(row.share for row in rows if row.transform != "revised") < 0.01
    [revised] = [row for row in rows if row.transform == "revised"]
    assert revised.marked > 0
    assert revised.changed >= 3
    assert revised.found == revised.changed


def test_a_changed_place_is_told_by_its_ink() -> None:
    """If this fails, the share of changes found is one of places that did not change."""
    before = np.full((1000, 2000), 255, np.uint8)
    after = before.copy()
    after[500:504, 1000:1100] = 0
    after[10, 10] = 0  # too small

    [(x, y)] = _places(before, after)

    assert 0.5 <= x <= 0.55
    assert 0.5 <= y <= 0.504


def test_the_report_weighs_groups_alike() -> None:
    """If this fails, one large source hides what happens to the others."""
    rows = [
        Marked(transform="scanned", entry=f"a{number}", group="a", marked=0, unchanged=100)
        for number in range(3)
    ]
    rows.append(Marked(transform="scanned", entry="b", group="b", marked=10, unchanged=90))
    rows.append(
        Marked(transform="revised", entry="b", group="b", marked=10, unchanged=90, changed=4, found=3)
    )

    report = _report(rows, [], sheets=4, seed=0)

    assert "| scanned | 2.50 | 5.00 | 10.00 | 10.0 (b) | 75 |" in report
    assert "3 of 4 places" in report
    assert "75.0 %" in report
