"""
Settings from the environment; nothing else in the project reads it.

Each setting is declared once, with its variable, default, what is allowed and what it is for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from attrs import Factory, fields, frozen

from dedup2d.errors import ConfigurationError
from dedup2d.setting_rules import (
    MIB,
    Variable,
    choice,
    directory,
    file,
    names,
    origins,
    read_variables,
    seconds,
    setting,
    text,
    whole,
    yes_or_no,
)
from dedup2d.settings_access import AccessSettings
from dedup2d.tenants import TENANT_RULE, is_tenant_id

__all__ = ["Settings", "Variable"]

_FORMER_NAMES = {"DEDUP2D_QUEUE_NAME": "DEDUP2D_ARQ_QUEUE_NAME"}


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        return Path(base).expanduser() / "dedup2d"
    except RuntimeError:  # a user who is a number only has no home, as in containers
        return Path("/var/lib/dedup2d")


def _default_processes() -> int:
    return max(1, min(8, os.cpu_count() or 1))


@frozen(kw_only=True)
class Settings(AccessSettings):
    """
    All settings. Built explicitly, or by `from_environment`.

    Raises:
        ConfigurationError: a value is not allowed; names the variable, the value and what is.
    """

    _prefix: ClassVar[str] = ""

    data_dir: Path = setting(
        "DEDUP2D_DATA_DIR",
        Factory(_default_data_dir),
        directory(),
        "where index, jobs and uploads are kept; default: dedup2d in the user's data directory, or"
        " /var/lib/dedup2d for a user without a home",
    )
    tenant: str = setting(
        "DEDUP2D_TENANT",
        "default",
        text(TENANT_RULE, is_tenant_id),
        "whose index the command uses, and the service when it has no keys",
    )
    host: str = setting(
        "DEDUP2D_HOST", "127.0.0.1", text("an address", bool), "address the service listens on"
    )
    port: int = setting(
        "DEDUP2D_PORT", 8000, whole(0, 65535), "port the service listens on; 0 takes a free one"
    )
    metrics_port: int | None = setting(
        "DEDUP2D_METRICS_PORT",
        None,
        whole(1, 65535),
        "port of its own for /metrics of a service, vision server or worker; unset: beside the API, and for a"
        " worker nowhere",
    )
    metrics_host: str = setting(
        "DEDUP2D_METRICS_HOST",
        "127.0.0.1",
        text("an address", bool),
        "address for DEDUP2D_METRICS_PORT; whoever reaches it may read the metrics, without a key",
    )
    allowed_hosts: tuple[str, ...] = setting(
        "DEDUP2D_ALLOWED_HOSTS",
        (),
        names(),
        "Host names that the service answers to besides loopback's when it has no keys",
    )
    cors_origins: tuple[str, ...] = setting(
        "DEDUP2D_CORS_ORIGINS",
        (),
        origins(),
        "origins whose pages may call the API from a browser; *: all, where keys are set. Unset: none",
    )
    max_jobs: int = setting(
        "DEDUP2D_ASYNC_MAX_JOBS", 200, whole(1, 1_000_000), "jobs that may wait and run, over all tenants"
    )
    max_jobs_per_tenant: int = setting(
        "DEDUP2D_ASYNC_MAX_JOBS_PER_TENANT",
        1_000_000,
        whole(1, 1_000_000),
        "jobs of one tenant that may wait and run",
    )
    max_concurrency: int = setting(
        "DEDUP2D_ASYNC_MAX_CONCURRENCY", 2, whole(0, 256), "jobs that run at once; 0 runs none here"
    )
    ttl_seconds: float = setting(
        "DEDUP2D_ASYNC_TTL_SECONDS",
        3600.0,
        seconds(1, 31_536_000),
        "how long a job is kept once it is final",
    )
    job_timeout_seconds: float = setting(
        "DEDUP2D_ASYNC_JOB_TIMEOUT_SECONDS", 300.0, seconds(0.1, 86_400), "how long one search may run"
    )
    max_wait_seconds: float = setting(
        "DEDUP2D_ASYNC_MAX_WAIT_SECONDS",
        3600.0,
        seconds(0, 604_800),
        "how long a job waits for a vision engine that cannot answer before it fails",
    )
    lease_seconds: float = setting(
        "DEDUP2D_ASYNC_LEASE_SECONDS", 60.0, seconds(1, 3600), "a worker silent for so long has lost its job"
    )
    heartbeat_seconds: float = setting(
        "DEDUP2D_ASYNC_HEARTBEAT_SECONDS", 20.0, seconds(0.1, 1800), "how often a worker renews its lease"
    )
    sweep_seconds: float = setting(
        "DEDUP2D_ASYNC_SWEEP_SECONDS",
        15.0,
        seconds(0.1, 3600),
        "how often lost and expired jobs are looked for",
    )
    file_storage_dir: Path | None = setting(
        "DEDUP2D_FILE_STORAGE_DIR",
        None,
        directory(),
        "directory of uploads; default: files in the data directory",
    )
    file_cleanup_on_finish: bool = setting(
        "DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH", True, yes_or_no(), "delete an upload when its job is final"
    )
    file_retention_seconds: float = setting(
        "DEDUP2D_FILE_STORAGE_RETENTION_SECONDS",
        3600.0,
        seconds(60, 31_536_000),
        "how old an upload without a job must be before it is collected",
    )
    max_upload_bytes: int = setting(
        "DEDUP2D_MAX_UPLOAD_BYTES", 100 * MIB, whole(1, 4096 * MIB), "largest file taken in"
    )
    forced_async_file_size_bytes: int = setting(
        "DEDUP2D_FORCED_ASYNC_FILE_SIZE_BYTES",
        5 * MIB,
        whole(0, 4096 * MIB),
        "a search by a file larger than this always runs as a job",
    )
    forced_async_on_precision: bool = setting(
        "DEDUP2D_FORCED_ASYNC_ON_PRECISION",
        True,
        yes_or_no(),
        "a search with geometry to compare always runs as a job",
    )
    forced_async_on_mode_precise: bool = setting(
        "DEDUP2D_FORCED_ASYNC_ON_MODE_PRECISE",
        True,
        yes_or_no(),
        "a search with mode=precise always runs as a job",
    )
    engine_processes: int = setting(
        "DEDUP2D_ENGINE_PROCESSES",
        Factory(_default_processes),
        whole(1, 256),
        "child processes that read and compare drawings; default: one per core, at most 8",
    )
    read_max_pixels: int = setting(
        "DEDUP2D_READ_MAX_PIXELS", 120_000_000, whole(10_000, 2_000_000_000), "most pixels of one picture"
    )
    read_max_pages: int = setting("DEDUP2D_READ_MAX_PAGES", 200, whole(1, 10_000), "most sheets of one file")
    read_max_entities: int = setting(
        "DEDUP2D_READ_MAX_ENTITIES",
        300_000,
        whole(100, 10_000_000),
        "most entities of one DXF or DWG, blocks resolved",
    )
    read_max_seconds: float = setting(
        "DEDUP2D_READ_MAX_SECONDS", 60.0, seconds(0.1, 3600), "how long reading one file may take"
    )
    ml_model: Path | None = setting(
        "DEDUP2D_ML_MODEL",
        None,
        file(),
        "ONNX model that searches with enable_ml ask for further candidates; needs the extra ml",
    )
    log_level: str = setting(
        "DEDUP2D_LOG_LEVEL",
        "info",
        choice("debug", "info", "warning", "error"),
        "least level that is logged",
    )
    log_format: str = setting(
        "DEDUP2D_LOG_FORMAT",
        "auto",
        choice("auto", "json", "console"),
        "auto: readable on a terminal, else JSON",
    )

    def __attrs_post_init__(self) -> None:
        self.check_backends()
        self.check_access(self.max_upload_bytes)
        if self.heartbeat_seconds > self.lease_seconds / 2:
            raise ConfigurationError(
                "DEDUP2D_ASYNC_HEARTBEAT_SECONDS",
                self.heartbeat_seconds,
                f"at most half of DEDUP2D_ASYNC_LEASE_SECONDS ({self.lease_seconds:g})",
            )
        if self.file_retention_seconds < self.job_timeout_seconds:
            raise ConfigurationError(
                "DEDUP2D_FILE_STORAGE_RETENTION_SECONDS",
                self.file_retention_seconds,
                f"at least DEDUP2D_ASYNC_JOB_TIMEOUT_SECONDS ({self.job_timeout_seconds:g})",
            )

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Settings:
        """
        Read the settings from *variables*; an empty variable counts as not set.

        Raises:
            ConfigurationError: a value is not allowed.
        """
        given = {name: value for name, value in variables.items() if value.strip()}
        for name, former in _FORMER_NAMES.items():
            if name not in given and former in given:
                given[name] = given[former]
        return read_variables(cls, given)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of all variables that are read, former ones too."""
        return frozenset({variable.name for variable in cls.variables()} | set(_FORMER_NAMES.values()))

    def changed(self) -> dict[str, str]:
        """Return the settings that differ from their defaults, with their values; secret ones as `***`."""
        fresh = type(self)()
        return {
            each.metadata["variable"].name: str(getattr(self, each.name)) if each.repr else "***"
            for each in fields(type(self))
            if getattr(self, each.name) != getattr(fresh, each.name)
        }

    @classmethod
    def variables(cls) -> tuple[Variable, ...]:
        """Return every setting, for documentation."""
        return tuple(attribute.metadata["variable"] for attribute in fields(cls))
