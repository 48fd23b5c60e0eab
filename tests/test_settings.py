"""Settings: each from the environment, each wrong value named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup2d.errors import ConfigurationError
from dedup2d.settings import Settings

DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"


def test_defaults_are_those_of_the_runbook() -> None:
    """If this fails, a deployment that sets nothing behaves otherwise than the runbook says."""
    settings = Settings.from_environment({})

    assert (settings.max_jobs, settings.max_concurrency) == (200, 2)
    assert (settings.ttl_seconds, settings.job_timeout_seconds) == (3600, 300)
    assert settings.forced_async_file_size_bytes == 5_242_880
    assert settings.host == "127.0.0.1"


def test_variables_are_read_and_empty_ones_count_as_unset() -> None:
    """If this fails, a variable is ignored, or `NAME=` in a unit file stops the start."""
    settings = Settings.from_environment(
        {
            "DEDUP2D_ASYNC_MAX_JOBS": " 10 ",
            "DEDUP2D_PORT": "",
            "DEDUP2D_API_KEYS": "acme:0123456789abcdef, globex:fedcba9876543210",
            "DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH": "0",
            "UNRELATED": "x",
        }
    )

    assert settings.max_jobs == 10
    assert settings.port == 8000
    assert settings.api_keys == {"0123456789abcdef": "acme", "fedcba9876543210": "globex"}
    assert settings.file_cleanup_on_finish is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEDUP2D_PORT", "65536"),
        ("DEDUP2D_PORT", "eighty"),
        ("DEDUP2D_ASYNC_MAX_JOBS", "0"),
        ("DEDUP2D_ASYNC_TTL_SECONDS", "nan"),
        ("DEDUP2D_ASYNC_TTL_SECONDS", "inf"),
        ("DEDUP2D_ASYNC_BACKEND", "kafka"),
        ("DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH", "maybe"),
        ("DEDUP2D_TENANT", "../other"),
        ("DEDUP2D_LOG_LEVEL", "loud"),
        ("DEDUP2D_ASYNC_HEARTBEAT_SECONDS", "31"),
        ("DEDUP2D_FILE_STORAGE_RETENTION_SECONDS", "60"),
    ],
)
def test_a_wrong_value_stops_the_start_and_is_named(name: str, value: str) -> None:
    """If this fails, an operator must guess which variable was wrong."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({name: value})

    assert caught.value.name == name
    assert f"{name}={value}" in str(caught.value) or f"{float(value)}" in str(caught.value)
    assert "set it to" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["acme", "acme:short", "ACME:0123456789abcdef", "a:0123456789abcdef,b:0123456789abcdef"]
)
def test_wrong_keys_are_refused_without_being_shown(value: str) -> None:
    """If this fails, a mistyped key lands in the log."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"DEDUP2D_API_KEYS": value})

    assert "0123456789abcdef" not in str(caught.value)


def test_keys_are_not_in_the_repr() -> None:
    """If this fails, logging the settings logs the keys."""
    settings = Settings.from_environment({"DEDUP2D_API_KEYS": "acme:0123456789abcdef"})

    assert "0123456789abcdef" not in repr(settings)


def test_the_document_lists_every_setting() -> None:
    """If this fails, docs/settings.md is not what `python docs/settings.py` writes."""
    text = DOCUMENT.read_text()

    for variable in Settings.variables():
        assert (
            f"| `{variable.name}` | {variable.default or '—'} | {variable.allowed} | {variable.help} |"
            in text
        )
