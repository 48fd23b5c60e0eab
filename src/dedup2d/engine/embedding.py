"""
L3: a learned embedding, with any image model in ONNX format that the operator gives.

A model takes one picture and gives one vector; pictures that it finds alike have vectors of nearly one
direction. The engine only asks it which drawings are worth a closer look: what is alike to a network
trained on photographs may be any two sheets with one frame, so that L4 alone says what they are.

Networks of torchvision and timm expect colours as on average in ImageNet (Deng et al., 2009): that mean is
subtracted from each channel, and the rest divided by its deviation.
"""

from __future__ import annotations

import hashlib
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.clean import Picture, decode_ink
from dedup2d.errors import InternalError, MissingExtraError, UnreadableDrawingError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["MAX_DIMENSIONS", "NEEDED", "Model", "embed", "open_model", "picture_of"]

MAX_DIMENSIONS = 4096

NEEDED = (
    "one ONNX file, the weights in it, with one input, a picture (float32, NCHW, 1 or 3 channels, of one size"
    f" up to 1,024 pixels or of any), and one output, a vector (float32, 2 to {MAX_DIMENSIONS:,} numbers)"
)

_ANY_SIZE = 224  # pixels a side for a model that takes any size: what most were trained with
_MOST_SIDE = 1024
_COLOUR = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GREY = (0.449,), (0.226,)
_DIGEST_LETTERS = 16
_NOWHERE = "/nonexistent"

Values = npt.NDArray[np.float32]


@frozen
class Model:
    """A model as it travels to a child: where it lies, its SHA-256 (the start of it), and its shape."""

    path: str
    digest: str
    channels: int
    height: int
    width: int
    dimensions: int


def open_model(path: Path) -> Model:
    """
    Look at the model at *path*, and ask it for a first vector to see whether it works.

    Meant to run inside `Children.call`: a model may take any time and memory, to load and to run.

    Raises:
        MissingExtraError: the extra `ml` is not installed.
        ValueError: it cannot be read or is no such model (see `NEEDED`); says why.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("is not a regular file")  # a pipe would never end
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({(error.strerror or str(error)).lower()})") from None
    session = _session(data)
    channels, height, width = _input_of(session)
    values = _run(session, np.zeros((1, channels, height, width), np.float32))
    return Model(str(path.resolve()), _digest(data), channels, height, width, len(values))


def embed(inks: tuple[bytes, ...], model: Model) -> tuple[bytes | None, ...]:
    """
    Vectors of ink pictures as the index stores them, None for a picture that is damaged.

    Each is `model.dimensions` float16 numbers, little-endian, of length 1 together; all 0 where the model
    gives nothing that has a direction, which makes it like nothing.

    Raises:
        InternalError: the file of the model is not the one that the program started with.
        UnreadableDrawingError: the model failed.
        MissingExtraError: the extra `ml` is not installed.
    """
    session = _loaded(model)
    return tuple(_vector(session, ink, model) for ink in inks)


def picture_of(ink: Picture, model: Model) -> Values:
    """
    What the model sees of an ink picture: float32, (1, channels, height, width).

    Black on white, shrunk as a whole into the model's size, in the middle of white paper. Lines thinner
    than what becomes a pixel are grey. Of one channel, the mean and deviation are those of grey pictures.
    """
    height, width = ink.shape
    scale = min(model.width / width, model.height / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    sheet = np.full((model.height, model.width), 255, np.uint8)
    top, left = (model.height - size[1]) // 2, (model.width - size[0]) // 2
    sheet[top : top + size[1], left : left + size[0]] = 255 - cv2.resize(ink, size, interpolation=way)
    mean, deviation = (np.array(one, np.float32) for one in (_COLOUR if model.channels == 3 else _GREY))
    shades = sheet.astype(np.float32)[..., None] / 255
    return np.ascontiguousarray(((shades - mean) / deviation).transpose(2, 0, 1)[None])


def _vector(session: onnxruntime.InferenceSession, ink: bytes, model: Model) -> bytes | None:
    try:
        picture = picture_of(decode_ink(ink), model)
    except (ValueError, cv2.error):
        return None
    try:
        values = _run(session, picture).astype(np.float64)  # float32 cannot hold each length
    except ValueError as error:
        raise UnreadableDrawingError("a picture", f"the model {error}") from error
    if len(values) != model.dimensions:
        gave = f"gives {len(values)} numbers where it gave {model.dimensions} at the start"
        raise UnreadableDrawingError("a picture", f"the model {gave}")
    length = float(np.linalg.norm(values))
    if not np.isfinite(length) or not length:
        return bytes(2 * model.dimensions)
    return (values / length).astype("<f2").tobytes()


@lru_cache(maxsize=1)
def _loaded(model: Model) -> onnxruntime.InferenceSession:
    """The session of this process, made once."""
    try:
        data = Path(model.path).read_bytes()
    except OSError:
        data = b""
    if _digest(data) != model.digest:
        raise InternalError("the file of DEDUP2D_ML_MODEL was changed while dedup2d ran: restart it")
    try:
        return _session(data)
    except ValueError as error:
        raise UnreadableDrawingError("a picture", f"the model {error}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGEST_LETTERS]


def _session(data: bytes) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime  # noqa: PLC0415 - behind an extra of its own
    except ImportError as error:
        raise MissingExtraError("ml", "a learned embedding (DEDUP2D_ML_MODEL)") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # children have little memory and serve one picture at a time
    options.log_severity_level = 4
    # Weights outside of the file would be looked for where the program runs, and no digest covers them.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"cannot be loaded: {_first_line(error)}") from error


def _input_of(session: onnxruntime.InferenceSession) -> tuple[int, int, int]:
    """Channels, height and width of the picture that the model takes."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"has {len(inputs)} inputs and {len(outputs)} outputs")
    kind, shape = inputs[0].type, inputs[0].shape
    if kind != "tensor(float)" or len(shape) != 4:
        raise ValueError(f"takes {kind} of {len(shape)} dimensions")
    batch, channels, height, width = (one if isinstance(one, int) else None for one in shape)
    if batch not in (None, 1) or channels not in (1, 3):
        raise ValueError(f"takes {shape}")
    sides = height or _ANY_SIZE, width or _ANY_SIZE
    if not 1 <= min(sides) <= max(sides) <= _MOST_SIDE:
        raise ValueError(f"takes pictures of {sides[1]} x {sides[0]} pixels")
    return channels, *sides


def _run(session: onnxruntime.InferenceSession, picture: Values) -> Values:
    try:
        (found,) = session.run(None, {session.get_inputs()[0].name: picture})
    except Exception as error:
        raise ValueError(f"fails: {_first_line(error)}") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.float32:
        raise ValueError(f"gives {getattr(found, 'dtype', type(found).__name__)}")
    if found.shape[:1] != (1,) or not 2 <= found.size <= MAX_DIMENSIONS or max(found.shape) != found.size:
        raise ValueError(f"gives {found.shape}, which is no such vector")
    return found.reshape(-1)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
