"""The key that `dedup2d serve --samples` makes for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup2d.errors import ConfigurationError
from dedup2d_http.command import demo_key


def test_the_key_is_made_once_and_only_the_owner_can_read_it(tmp_path: Path) -> None:
    """If this fails, the printed curl line stops working at the next start, or others can read the key."""
    key = demo_key(tmp_path / "data")

    assert len(key) >= 32
    assert demo_key(tmp_path / "data") == key
    assert demo_key(tmp_path / "other") != key
    (file,) = (tmp_path / "data").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept", ["", "short", "with\x1bescape-0123456789", "not-ascii-ü-0123456789"])
def test_a_damaged_key_file_is_no_weak_key(kept: str, tmp_path: Path) -> None:
    """If this fails, an empty file makes an empty key that anyone can guess."""
    (tmp_path / "demo-key").write_text(kept, encoding="utf-8")

    with pytest.raises(ConfigurationError, match="delete the file"):
        demo_key(tmp_path)
