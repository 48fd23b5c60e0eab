"""Settings: each from the environment, each wrong value named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup2d.errors import ConfigurationError
from dedup2d.keys import Principal, Scope
from dedup2d.settings import Settings
from dedup2d.tenants import TenantLimits

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


@pytest.mark.parametrize(
    ("variables", "name", "said"),
    [
        (
            {"DEDUP2D_REDIS_URL": "localhost:6379"},
            "DEDUP2D_REDIS_URL",
            "redis://[user:password@]host[:port][/db]",
        ),
        (
            {"DEDUP2D_REDIS_URL": "http://localhost"},
            "DEDUP2D_REDIS_URL",
            "redis://[user:password@]host[:port][/db]",
        ),
        ({"DEDUPCAD_VISION_URL": "vision:58001"}, "DEDUPCAD_VISION_URL", "with its scheme"),
        ({"DEDUPCAD_VISION_URL": "http://user:pw@vision"}, "DEDUPCAD_VISION_URL", "without user"),
        ({"DEDUPCAD_VISION_URL": "http://vision:x"}, "DEDUPCAD_VISION_URL", "with its scheme"),
        ({"DEDUP2D_S3_ENDPOINT": "minio:9000"}, "DEDUP2D_S3_ENDPOINT", "with its scheme"),
        ({"DEDUP2D_S3_PREFIX": "../up"}, "DEDUP2D_S3_PREFIX", "key prefix"),
        ({"DEDUP2D_FILE_STORAGE": "s3"}, "DEDUP2D_S3_BUCKET", "DEDUP2D_FILE_STORAGE is s3"),
        ({"DEDUP2D_S3_ACCESS_KEY": "id"}, "DEDUP2D_S3_SECRET_KEY", "other half"),
        ({"DEDUP2D_S3_SECRET_KEY": "it"}, "DEDUP2D_S3_ACCESS_KEY", "other half"),
        ({"DEDUP2D_S3_KMS_KEY_ID": "k"}, "DEDUP2D_S3_SERVER_SIDE_ENCRYPTION", "aws:kms"),
        ({"DEDUP2D_S3_PRESIGNED_UPLOADS": "1"}, "DEDUP2D_FILE_STORAGE", "s3"),
        ({"DEDUP2D_RENDER_QUEUE_NAME": "dedup2d:queue"}, "DEDUP2D_RENDER_QUEUE_NAME", "another name"),
        ({"DEDUP2D_QUEUE_NAME": "two words"}, "DEDUP2D_QUEUE_NAME", "letters"),
    ],
)
def test_wrong_settings_of_servers_are_named(variables: dict[str, str], name: str, said: str) -> None:
    """If this fails, a service starts with half a deployment and fails at the first job."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(variables)

    assert caught.value.name == name
    assert said in str(caught.value)


def test_the_queue_is_also_named_as_it_was_before() -> None:
    """If this fails, workers and services that are configured by the runbook's old name part company."""
    assert Settings.from_environment({}).main_queue_name == "dedup2d:queue"
    assert Settings.from_environment({"DEDUP2D_REDIS_KEY_PREFIX": "x"}).main_queue_name == "x:queue"
    assert Settings.from_environment({"DEDUP2D_ARQ_QUEUE_NAME": "old"}).main_queue_name == "old"
    both = {"DEDUP2D_ARQ_QUEUE_NAME": "old", "DEDUP2D_QUEUE_NAME": "new"}
    assert Settings.from_environment(both).main_queue_name == "new"


def test_secrets_of_servers_are_shown_nowhere() -> None:
    """If this fails, logging the settings, or an error about one, gives away a password."""
    settings = Settings.from_environment(
        {
            "DEDUP2D_REDIS_URL": "redis://user:hunter22@redis:6379/1",
            "DEDUP2D_S3_ACCESS_KEY": "AKIA1",
            "DEDUP2D_S3_SECRET_KEY": "hunter22",
            "DEDUPCAD_VISION_API_KEY": "hunter22hunter22",
        }
    )
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"DEDUP2D_REDIS_URL": "http://user:hunter22@redis"})

    assert "hunter22" not in repr(settings)
    assert "hunter22" not in str(caught.value)


def test_keys_can_have_scopes() -> None:
    """If this fails, a key of the environment may do more than it says, or keys with a colon changed."""
    settings = Settings.from_environment(
        {
            "DEDUP2D_API_KEYS": "acme:0123456789abcdef:search+index, acme:fedcba9876543210:x,"
            "b:0123:56789abcdefgh"
        }
    )

    assert settings.api_keys == {
        "0123456789abcdef": Principal("acme", frozenset({Scope.SEARCH, Scope.INDEX})),
        "fedcba9876543210:x": "acme",
        "0123:56789abcdefgh": "b",
    }


def test_what_was_changed_is_told_without_secrets() -> None:
    """If this fails, the audit log does not say how a service was set up, or gives its keys away."""
    settings = Settings.from_environment(
        {
            "DEDUP2D_PORT": "9000",
            "DEDUP2D_HOST": "127.0.0.1",
            "DEDUP2D_API_KEYS": "acme:0123456789abcdef",
            "DEDUP2D_KEYS_SECRET": "s" * 32,
            "DEDUP2D_REDIS_URL": "redis://:hunter22@redis",
            "DEDUP2D_TENANT_LIMITS": "acme:max_jobs=5",
        }
    )
    changed = settings.changed()

    assert changed.pop("DEDUP2D_TENANT_LIMITS").count("max_jobs=5") == 1
    assert changed == {
        "DEDUP2D_PORT": "9000",
        "DEDUP2D_API_KEYS": "***",
        "DEDUP2D_KEYS_SECRET": "***",
        "DEDUP2D_REDIS_URL": "***",
    }


def test_limits_of_tenants_are_read() -> None:
    """If this fails, a tenant has other limits than the operator set."""
    settings = Settings.from_environment(
        {
            "DEDUP2D_TENANT_LIMITS": "acme:max_jobs=5 + max_drawings=0, b:requests_per_second=7",
            "DEDUP2D_MAX_DRAWINGS_PER_TENANT": "9",
        }
    )

    assert settings.tenant_limits["acme"] == TenantLimits(max_jobs=5, max_drawings=0)
    assert [settings.max_drawings(tenant) for tenant in ("acme", "b", "c")] == [0, 9, 9]
    assert [settings.requests_per_second(tenant) for tenant in ("acme", "b")] == [100, 7]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEDUP2D_TENANT_LIMITS", "acme"),
        ("DEDUP2D_TENANT_LIMITS", "acme:"),
        ("DEDUP2D_TENANT_LIMITS", "ACME:max_jobs=1"),
        ("DEDUP2D_TENANT_LIMITS", "acme:max_jobs=0"),
        ("DEDUP2D_TENANT_LIMITS", "acme:max_jobs=1+max_jobs=2"),
        ("DEDUP2D_TENANT_LIMITS", "acme:max_jobs=1, acme:max_jobs=2"),
        ("DEDUP2D_TENANT_LIMITS", "acme:jobs=1"),
        ("DEDUP2D_TENANT_LIMITS", "acme:max_upload_bytes=104857601"),
        ("DEDUP2D_TRUSTED_PROXIES", "proxy.example"),
        ("DEDUP2D_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("DEDUP2D_MAX_WRONG_KEYS_PER_MINUTE", "-1"),
    ],
)
def test_wrong_limits_stop_the_start(name: str, value: str) -> None:
    """If this fails, a limit that was mistyped does not hold, and nobody knows."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({name: value})

    assert caught.value.name == name


def test_a_secret_of_keys_is_long_and_shown_nowhere() -> None:
    """If this fails, a weak secret is taken, or a log has it."""
    for value in ("hunter22", f"{'s' * 32}, hunter22"):
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_environment({"DEDUP2D_KEYS_SECRET": value})
        assert "hunter22" not in str(caught.value)
    settings = Settings.from_environment({"DEDUP2D_KEYS_SECRET": f"{'s' * 32}, {'t' * 32}"})

    assert settings.keys_secret == ("s" * 32, "t" * 32)
    assert "s" * 32 not in repr(settings)


def test_a_user_without_a_home_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, nothing starts in a container whose user is a number, though all is set."""

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)

    assert Settings().data_dir == Path("/var/lib/dedup2d")
    assert Settings.from_environment({"DEDUP2D_DATA_DIR": "/data"}).changed() == {"DEDUP2D_DATA_DIR": "/data"}
