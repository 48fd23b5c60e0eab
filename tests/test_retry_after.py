"""How long a server asks its clients to wait."""

from __future__ import annotations

import pytest

from dedup2d.retry_after import seconds_to_wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("0.02", 0.02),
        ("9" * 20, 3600.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:14:20 -0000", 60.0),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0.0),
        ("Tue, 14 Nov 2123 22:12:20 GMT", 3600.0),
        *((text, None) for text in ("", "-1", "1e3", "nan", "soon", "9" * 400, "\u0661", "Tue, 99 Nov 2023")),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(
    header: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a server cannot ask for time, or breaks its clients by how it asks."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert seconds_to_wait(header, now=1_700_000_000.0, longest=3600.0) == seconds
