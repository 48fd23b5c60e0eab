"""
Errors, one root, one stable `code` each.

Every error also derives from the closest builtin. Its message names the input, the
limit and the next step, and never a path of the server or a stack.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BlockedAddressError",
    "CallbackNotGenuineError",
    "CallbackQueueFullError",
    "CallbackStateError",
    "CallbackUrlError",
    "ConfigurationError",
    "Dedup2DError",
    "DrawingNotFoundError",
    "EmptyFileError",
    "FileNotStoredError",
    "FileTooLargeError",
    "IdempotencyConflictError",
    "ImageTooLargeError",
    "IndexFullError",
    "IndexVersionError",
    "InternalError",
    "InvalidGeometryError",
    "InvalidParameterError",
    "JobNotFoundError",
    "JobQueueFullError",
    "JobTimeoutError",
    "LeaseLostError",
    "MissingExtraError",
    "NoGeometryError",
    "ServiceError",
    "ServiceUnreachableError",
    "StoreUnavailableError",
    "StoreVersionError",
    "UnreadableDrawingError",
    "UnreadableRecordError",
    "UnsupportedFormatError",
    "VisionBadResponseError",
    "VisionCircuitOpenError",
    "VisionRefusedError",
    "VisionUnavailableError",
    "VisionUnsupportedError",
    "WorkerLostError",
]


def shown(value: Any, limit: int = 80) -> str:
    """Untrusted `value` as one short printable line for a message."""
    text = value if isinstance(value, str) else repr(value)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Dedup2DError(Exception):
    """Root of all errors that dedup2d raises on purpose."""

    code: ClassVar[str] = "INTERNAL"
    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without any change."""

    @classmethod
    def saying(cls, message: str, **fields: Any) -> Dedup2DError:
        """Return an error of this kind that says *message*, as another process worded it."""
        return _revive(cls, (message,), fields)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the error is: its message cannot be made again from its arguments."""
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[Dedup2DError], args: tuple[Any, ...], fields: dict[str, Any]) -> Dedup2DError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class InternalError(Dedup2DError, RuntimeError):
    """Something failed that should not; the log of the service says what."""


class MissingExtraError(Dedup2DError, ImportError):
    """A part was asked for whose packages are not installed."""

    def __init__(self, extra: str, what: str) -> None:
        self.extra = extra
        super().__init__(f'{what} needs an extra that is not installed: pip install "dedup2d[{extra}]"')


class ConfigurationError(Dedup2DError, ValueError):
    """A setting has a value that is not allowed."""

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        self.name = name
        super().__init__(f"{name}={shown(value)!s} is not allowed: set it to {allowed}")


class InvalidParameterError(Dedup2DError, ValueError):
    """A parameter of a call has a value that is not allowed."""

    code = "INVALID_PARAMETER"

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        self.name = name
        super().__init__(f"{name}={shown(value)} is not allowed: give {allowed}")


class CallbackUrlError(Dedup2DError, ValueError):
    """
    A callback URL is not one that this service may call.

    `reason` is one of `dedup2d.callbacks.guard.Refusal`. The message never shows more of the URL than its
    host: user info and query may be secret.
    """

    code = "CALLBACK_URL_INVALID"

    def __init__(self, reason: str, problem: str, allowed: str) -> None:
        self.reason = reason
        super().__init__(f"callback_url is not allowed ({problem}): give {allowed}")


class BlockedAddressError(Dedup2DError, ValueError):
    """
    A callback was not sent, for its host is not, or not only, at addresses that may be called.

    `reason` is one of `dedup2d.callbacks.guard.Refusal`. The message does not show the address: whoever
    gave the URL may not learn what the names of this network resolve to.
    """

    code = "CALLBACK_URL_INVALID"

    def __init__(self, host: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{shown(host)} may not be called: let the callback URL name a host with public addresses only"
        )


class IdempotencyConflictError(Dedup2DError, ValueError):
    """An idempotency key came again with another request."""

    code = "IDEMPOTENCY_CONFLICT"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Idempotency-Key {shown(key)} was used before with another file, parameters or callback:"
            " use a new key for a new request"
        )


class EmptyFileError(Dedup2DError, ValueError):
    """The file has no bytes."""

    code = "EMPTY_FILE"

    def __init__(self, name: str) -> None:
        super().__init__(f"{shown(name)} is empty (0 bytes): send the drawing itself")


class FileTooLargeError(Dedup2DError, ValueError):
    """The file has more bytes than allowed."""

    code = "FILE_TOO_LARGE"

    def __init__(self, name: str, limit: int, setting: str = "DEDUP2D_MAX_UPLOAD_BYTES") -> None:
        self.limit = limit
        super().__init__(
            f"{shown(name)} is larger than the limit of {limit:,} bytes:"
            f" send a smaller file or raise {setting}"
        )


class UnsupportedFormatError(Dedup2DError, ValueError):
    """The bytes are none of the formats that can be read."""

    code = "UNSUPPORTED_FORMAT"

    def __init__(self, name: str, reason: str = "its content is none of them") -> None:
        super().__init__(
            f"{shown(name)} is not a drawing that can be read ({reason}):"
            " send PNG, JPEG, TIFF, PDF, DXF (also gzipped), DWG or SVG"
        )


class UnreadableDrawingError(Dedup2DError, ValueError):
    """The file is of a known format but cannot be read, or exceeds a limit of reading."""

    code = "UNREADABLE_DRAWING"

    def __init__(self, name: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{shown(name)} cannot be read: {reason}")


class NoGeometryError(UnreadableDrawingError):
    """The file has pixels or paths only, and no entities to take geometry from."""

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(
            name, f"a {kind} has no geometry: give DXF (also gzipped), DWG or the drawing's geometry JSON"
        )


class ImageTooLargeError(UnreadableDrawingError):
    """The picture would have more pixels, or expand to more bytes, than allowed."""

    code = "IMAGE_TOO_LARGE"


class InvalidGeometryError(Dedup2DError, ValueError):
    """The geometry of a drawing is not JSON, not of the v2 format, or exceeds a limit; `path` says where."""

    code = "INVALID_GEOM_JSON"

    def __init__(self, path: str, problem: str, step: str = "send v2 geometry JSON") -> None:
        self.path = path
        super().__init__(f"geom_json cannot be used: {shown(path)} {shown(problem, 200)}: {step}")


class DrawingNotFoundError(Dedup2DError, LookupError):
    """The index has no drawing of this id."""

    code = "DRAWING_NOT_FOUND"

    def __init__(self, drawing_id: str) -> None:
        super().__init__(f"drawing {shown(drawing_id)} is not in the index: list the index to see what is")


class IndexFullError(Dedup2DError, RuntimeError):
    """The tenant's index has as many drawings as it may."""

    code = "INDEX_FULL"

    def __init__(self, limit: int, new: int = 1) -> None:
        self.limit = limit
        what = "one more" if new == 1 else f"{new:,} more"
        super().__init__(
            f"the index may have {limit:,} drawings and has no room for {what}: remove some,"
            " or raise DEDUP2D_MAX_DRAWINGS_PER_TENANT or what DEDUP2D_TENANT_LIMITS says of this tenant"
        )


class IndexVersionError(Dedup2DError, RuntimeError):
    """The index on disk was written by a newer version."""


class FileNotStoredError(Dedup2DError, LookupError):
    """The file store has no file under this key."""

    code = "FILE_NOT_FOUND"

    def __init__(self, key: str) -> None:
        super().__init__(f"no stored file has the key {shown(key)}: it was deleted or never stored")


class JobNotFoundError(Dedup2DError, LookupError):
    """The tenant has no job of this id."""

    code = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {shown(job_id)} does not exist or has expired: submit it again")


class CallbackNotGenuineError(Dedup2DError, ValueError):
    """A callback that came in was not sent by who knows the secret, or was altered, or is old."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this callback is not genuine ({why}): answer 400, and do not act on it")


class CallbackStateError(Dedup2DError, RuntimeError):
    """The callback of a job cannot be sent again: there is none, or it has not been sent yet."""

    code = "CALLBACK_CONFLICT"

    def __init__(self, job_id: str, *, asked_for: bool) -> None:
        why = (
            "is not final yet: its callback is sent as soon as it is"
            if asked_for
            else "was submitted without callback_url: submit it again with one"
        )
        super().__init__(f"job {shown(job_id)} {why}")


class CallbackQueueFullError(Dedup2DError, RuntimeError):
    """As many callbacks of the tenant wait for their receivers as may."""

    code = "CALLBACK_QUEUE_FULL"
    transient = True

    def __init__(self, limit: int, retry_after: float = 60.0) -> None:
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(
            f"{limit} callbacks of this tenant wait for receivers that do not answer: mend those, leave"
            f" callback_url out, try again in {retry_after:.0f} s, or raise DEDUP2D_CALLBACK_MAX_WAITING"
        )


class JobQueueFullError(Dedup2DError, RuntimeError):
    """No place is free for another job."""

    code = "JOB_QUEUE_FULL"
    transient = True

    def __init__(self, limit: int, retry_after: float = 5.0, *, per_tenant: bool = False) -> None:
        self.limit = limit
        self.retry_after = retry_after
        self.per_tenant = per_tenant
        whose, setting = ("of this tenant ", "_PER_TENANT") if per_tenant else ("", "")
        super().__init__(
            f"all {limit} places {whose}for waiting and running jobs are taken:"
            f" try again in {retry_after:.0f} s or raise DEDUP2D_ASYNC_MAX_JOBS{setting}"
        )


class LeaseLostError(Dedup2DError, RuntimeError):
    """The caller no longer holds the job: it must stop and write nothing."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} is no longer held by this worker")


class JobTimeoutError(Dedup2DError, TimeoutError):
    """The job took longer than a job may."""

    code = "JOB_TIMEOUT"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the search took longer than {seconds:g} s: try mode=fast, a smaller file,"
            " or raise DEDUP2D_ASYNC_JOB_TIMEOUT_SECONDS"
        )


class WorkerLostError(Dedup2DError, RuntimeError):
    """Workers died on the job as often as is allowed."""

    code = "WORKER_LOST"

    def __init__(self, losses: int) -> None:
        super().__init__(
            f"the worker was lost {losses} times while running this job:"
            " the file may crash the reader; see the worker's log"
        )


class VisionUnavailableError(Dedup2DError, ConnectionError):
    """The vision engine cannot answer now."""

    code = "VISION_UNAVAILABLE"
    transient = True

    def __init__(self, reason: str, retry_after: float = 5.0) -> None:
        self.retry_after = retry_after
        super().__init__(f"the vision engine cannot answer now ({reason}): try again in {retry_after:.0f} s")


class VisionCircuitOpenError(VisionUnavailableError):
    """The vision server failed too often and is not asked for a while."""

    code = "VISION_CIRCUIT_OPEN"

    def __init__(self, endpoint: str, retry_after: float) -> None:
        self.retry_after = retry_after
        Exception.__init__(
            self,
            f"the vision server failed too often on {endpoint} and is not asked for {retry_after:.0f} s:"
            " see its log",
        )


class VisionBadResponseError(Dedup2DError, ValueError):
    """The vision server gave an answer that is not what its contract says."""

    code = "VISION_BAD_RESPONSE"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the answer of the vision server cannot be used ({shown(reason, 200)}):"
            " see what DEDUPCAD_VISION_URL points to, and its log"
        )


class VisionRefusedError(Dedup2DError, ValueError):
    """The vision server refused the request for a reason of its own."""

    code = "VISION_REFUSED"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the vision server refused the request ({shown(reason, 300)})")


class VisionUnsupportedError(Dedup2DError, RuntimeError):
    """The vision server has no route for this."""

    code = "VISION_UNSUPPORTED"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the vision server cannot {what}: let DEDUPCAD_VISION_URL point to `dedup2d vision serve`,"
            " or unset it for the embedded engine"
        )


class ServiceError(Dedup2DError, RuntimeError):
    """
    A dedup2d service answered with an error that has no class of its own here.

    `problem_code` is the code of its problem (as `UNAUTHORIZED`), empty if it sent none, and `status` that
    of HTTP.
    """

    def __init__(self, message: str, *, problem_code: str = "", status: int = 0) -> None:
        self.problem_code = problem_code
        self.status = status
        super().__init__(message)


class ServiceUnreachableError(Dedup2DError, ConnectionError):
    """A dedup2d service did not answer; whether it did what was asked for is not known."""

    transient = True

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"the service at {shown(host)} did not answer ({reason}): is it running there?")


class StoreUnavailableError(Dedup2DError, ConnectionError):
    """A store cannot work now: its disk is full, it is locked or out of reach."""

    code = "STORE_UNAVAILABLE"
    transient = True

    def __init__(self, store: str, reason: str, retry_after: float = 5.0) -> None:
        self.retry_after = retry_after
        super().__init__(f"the {store} cannot work now ({reason}): try again in {retry_after:.0f} s")


class StoreVersionError(Dedup2DError, RuntimeError):
    """The records of a store were written by a newer version."""

    def __init__(self, store: str, found: int, known: int) -> None:
        super().__init__(
            f"the {store} was written by a newer version of dedup2d (format {found}, this one knows"
            f" up to {known}): install that version, or start with another data directory"
        )


class UnreadableRecordError(Dedup2DError, ValueError):
    """Stored or received JSON is not what it should be."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"this is not a {what} ({shown(reason, 200)}): it is damaged, or not from dedup2d")
