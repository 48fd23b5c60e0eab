"""What is a key of a file store."""

from __future__ import annotations

import re

from dedup2d.errors import InvalidParameterError
from dedup2d.tenants import check_tenant_id, is_tenant_id

__all__ = [
    "GEOMETRY_PREFIX",
    "check_key",
    "geometries_of",
    "geometry_key",
    "geometry_owner",
    "is_file_hash",
    "is_key",
    "query_geometry_key",
    "upload_id",
]

GEOMETRY_PREFIX = "_geometry/"
"""What the keys of stored geometries begin with: no tenant is called so, and so no upload."""

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_JOB_ID = re.compile(r"[0-9a-f]{32}")
_QUERY_GEOMETRY = ".geometry"
_FILE_HASH = re.compile(r"[0-9a-f]{64}")
_GEOMETRY_END = ".json.gz"
_GEOMETRY_KEY = re.compile(rf"{GEOMETRY_PREFIX}([^/]+)/[0-9a-f]{{2}}/([0-9a-f]{{64}})\.json\.gz")
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,7}}")


def is_key(key: str) -> bool:
    """Say whether *key* is one by the words of `dedup2d.protocols.FileStore`."""
    return len(key) <= 512 and _KEY.fullmatch(key) is not None


def check_key(key: str) -> None:
    """
    Check that *key* is one.

    Raises:
        InvalidParameterError: it is not.
    """
    if not is_key(key):
        raise InvalidParameterError(
            "key",
            key,
            "one to eight segments of A-Z a-z 0-9 . _ - joined by /, none starting with a dot"
            " or longer than 200 characters, at most 512 characters in all",
        )


def is_file_hash(text: str) -> bool:
    """Say whether *text* is the sha256 of a file: 64 of 0-9 a-f."""
    return _FILE_HASH.fullmatch(text) is not None


def query_geometry_key(file_key: str) -> str:
    """Return the key of the geometry that came with the upload under *file_key*."""
    return file_key + _QUERY_GEOMETRY


def upload_id(key: str) -> tuple[str, str] | None:
    """Return tenant and job of the key of an upload, or of the geometry beside one; None of another key."""
    tenant_id, _, name = key.partition("/")
    job_id = name.removesuffix(_QUERY_GEOMETRY)
    return (tenant_id, job_id) if is_tenant_id(tenant_id) and _JOB_ID.fullmatch(job_id) else None


def geometry_key(tenant_id: str, file_hash: str) -> str:
    """
    Return the key under which the tenant's geometry of a file is stored.

    Raises:
        InvalidParameterError: *tenant_id* is not one, or *file_hash* not a sha256 in lower case hex.
    """
    check_tenant_id(tenant_id)
    if _FILE_HASH.fullmatch(file_hash) is None:
        raise InvalidParameterError("file_hash", file_hash, "the sha256 of a file: 64 of 0-9 a-f")
    return f"{geometries_of(tenant_id)}{file_hash[:2]}/{file_hash}{_GEOMETRY_END}"


def geometries_of(tenant_id: str) -> str:
    """Return what the keys of the tenant's geometries begin with."""
    return f"{GEOMETRY_PREFIX}{tenant_id}/"


def geometry_owner(key: str) -> tuple[str, str] | None:
    """Return tenant and file hash of a key that `geometry_key` gave, None of any other."""
    found = _GEOMETRY_KEY.fullmatch(key)
    if found is None:
        return None
    tenant_id, file_hash = found.groups()
    known = is_tenant_id(tenant_id) and key == geometry_key(tenant_id, file_hash)
    return (tenant_id, file_hash) if known else None
