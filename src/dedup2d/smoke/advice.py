"""What to do about a service that refuses, by the code of its problem."""

from __future__ import annotations

from dedup2d.errors import Dedup2DError, ServiceUnreachableError

__all__ = ["advice_for", "advice_on"]

_DOCTOR = "run dedup2d doctor with the environment of the service"
_VISION = f"see whether the vision server runs where DEDUPCAD_VISION_URL points, and its log; {_DOCTOR}"
_BY_CODE = {
    "UNAUTHORIZED": "give a key that this service takes, by --key or DEDUP2D_API_KEY;"
    " dedup2d keys list shows the stored ones",
    "FORBIDDEN": "give a key with both scopes: dedup2d keys create TENANT --scope search --scope index",
    "HOST_NOT_ALLOWED": "call it as 127.0.0.1, or name the host in DEDUP2D_ALLOWED_HOSTS",
    "STORE_UNAVAILABLE": f"Redis, the file store or the disk fails: {_DOCTOR}",
    "VISION_UNAVAILABLE": _VISION,
    "VISION_CIRCUIT_OPEN": _VISION,
    "VISION_BAD_RESPONSE": f"what answers at DEDUPCAD_VISION_URL is no vision server that fits: {_DOCTOR}",
    "VISION_REFUSED": "give services, workers and the vision server the same DEDUPCAD_VISION_API_KEY",
    "VISION_UNSUPPORTED": "let DEDUPCAD_VISION_URL point to dedup2d vision serve, or skip this step",
    "JOB_QUEUE_FULL": "see why jobs wait (dedup2d jobs list --status pending), and start more workers",
    "CALLBACK_QUEUE_FULL": "see which receivers are down (dedup2d jobs dead), or raise"
    " DEDUP2D_CALLBACK_MAX_WAITING",
    "CALLBACK_URL_INVALID": "let the service call it: DEDUP2D_CALLBACK_ALLOWLIST, DEDUP2D_CALLBACK_PORTS, for"
    " http DEDUP2D_CALLBACK_ALLOW_HTTP, for a private network DEDUP2D_CALLBACK_BLOCK_PRIVATE_NETWORKS",
    "RATE_LIMITED": "wait, or give a key of a tenant with a higher limit (DEDUP2D_TENANT_LIMITS)",
    "INDEX_FULL": "give a key of a tenant whose index has room, or raise DEDUP2D_MAX_DRAWINGS_PER_TENANT",
    "JOB_TIMEOUT": "the engine is slow: look at its CPU and at dedup2d_engine_stage_duration_seconds",
    "WORKER_LOST": "workers die: look at their log and memory",
    "NOT_FOUND": "this is no dedup2d service, or another path: give in --url what stands before /api/v1",
}
_UNREACHABLE = "see whether it runs, and whether this machine may reach it (address, port, firewall, TLS)"
_ELSE = "look for the request id in the log of the service"


def advice_for(code: str) -> str:
    """Return what to do about a problem of *code*, also that of a failed job."""
    return _BY_CODE.get(code, _ELSE)


def advice_on(error: Dedup2DError) -> str:
    """Return what to do about what a client raised."""
    if isinstance(error, ServiceUnreachableError):
        return _UNREACHABLE
    return advice_for(getattr(error, "problem_code", "") or error.code)
