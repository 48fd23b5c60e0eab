"""
What is usually taken for this task, measured on the same queries: hashes and embeddings, in 8 poses.

imagehash's pHash (64 and 256 bit), Meta's PDQ (256 bit, through pdqhash), and any image embedding that is
given as an ONNX file. The query is put in its 8 quarter turns and mirror images; a drawing's distance
is the least of the 8. For hashes, pictures are shrunk to 512 pixels first, as PDQ's reference does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
import pdqhash
from PIL import Image

__all__ = ["HASHES", "Peer", "embedding", "false_duplicates", "hash_all", "ranked"]

Grey = npt.NDArray[np.uint8]
Code = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Distances = npt.NDArray[np.float64]


class Peer:
    """
    A code with the distance up to which its users call pictures the same.

    The usual threshold is 10 of 64 bits for pHash, in proportion 40 of 256, and 31 of 256 for PDQ (its
    authors' recommendation); for embeddings a cosine of 0.90, the precision point that SSCD's
    authors recommend for theirs.
    """

    def __init__(
        self,
        name: str,
        threshold: float,
        code_of: Callable[[Grey], Code],
        distances: Callable[[Code, Code], Distances],
    ) -> None:
        self.name = name
        self.threshold = threshold
        self.code_of = code_of
        self._distances = distances

    def poses(self, grey: Grey) -> Code:
        """Return the codes of the 8 poses, (8, length)."""
        grey = shrunk(grey)
        turned = [np.rot90(side, turn) for side in (grey, grey[:, ::-1]) for turn in range(4)]
        return np.stack([self.code_of(np.ascontiguousarray(pose)) for pose in turned])

    def nearest(self, poses: Code, codes: Code) -> Distances:
        """Return the distance (N,) of each of *codes* (N, length) from the nearest pose."""
        return np.asarray(self._distances(poses, codes).min(axis=0))


def shrunk(grey: Grey) -> Grey:
    """Return *grey* with a long side of at most 512 pixels."""
    factor = 512 / max(grey.shape)
    if factor >= 1:
        return grey
    return np.asarray(cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def _phash(size: int) -> Callable[[Grey], Code]:
    def code_of(grey: Grey) -> Code:
        return np.packbits(imagehash.phash(Image.fromarray(grey), hash_size=size).hash)

    return code_of


def _pdq(grey: Grey) -> Code:
    bits, _ = pdqhash.compute(np.repeat(grey[:, :, None], 3, axis=2))
    return np.packbits(np.asarray(bits, np.uint8))


def _bits_apart(poses: Code, codes: Code) -> Distances:
    apart = np.bitwise_count(poses[:, None].astype(np.uint8) ^ codes[None].astype(np.uint8))
    return np.asarray(apart.sum(axis=2), np.float64)


def _cosine_apart(poses: Code, codes: Code) -> Distances:
    return np.asarray(1 - poses.astype(np.float64) @ codes.T.astype(np.float64))


HASHES = (
    Peer("pHash 64", 10, _phash(8), _bits_apart),
    Peer("pHash 256", 40, _phash(16), _bits_apart),
    Peer("PDQ 256", 31, _pdq, _bits_apart),
)


def embedding(path: Path) -> Peer:
    """
    Return the image embedding in the ONNX file *path*: one input (1, 3, H, W), ImageNet's mean and deviation.

    Raises:
        SystemExit: onnxruntime is not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - optional
    except ImportError as error:
        raise SystemExit("--onnx needs the package onnxruntime: install it, or leave --onnx out") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    height, width = (side if isinstance(side, int) else 288 for side in entry.shape[2:])

    def code_of(grey: Grey) -> Code:
        small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        planes = [(small - mean) / deviation for mean, deviation in _IMAGENET]
        vector = np.asarray(session.run(None, {entry.name: np.stack(planes)[None]})[0], np.float32).ravel()
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)

    return Peer(f"embedding {path.stem}", 0.10, code_of, _cosine_apart)


_IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))


def hash_all(
    peers: Sequence[Peer], pictures: Iterable[tuple[str, Grey]], cache: Path
) -> tuple[list[str], dict[str, Code]]:
    """Code each (id, picture) with every peer, all 8 poses (N, 8, length); kept in *cache*, a .npz file."""
    if cache.is_file():
        with np.load(cache) as kept:
            if all(peer.name in kept for peer in peers):
                return list(kept["ids"]), {peer.name: kept[peer.name] for peer in peers}
    ids: list[str] = []
    codes: dict[str, list[Code]] = {peer.name: [] for peer in peers}
    for name, grey in pictures:
        ids.append(name)
        for peer in peers:
            codes[peer.name].append(peer.poses(grey))
    stacked = {name: np.stack(rows) for name, rows in codes.items()}
    with cache.open("wb") as file:
        np.savez(file, allow_pickle=False, ids=np.array(ids), **stacked)
    return ids, stacked


def ranked(peer: Peer, query: Grey, ids: list[str], codes: Code, limit: int) -> list[tuple[str, float]]:
    """Return the *limit* nearest drawings and their distances."""
    distances = peer.nearest(peer.poses(query), codes[:, 0])
    order = np.argsort(distances, kind="stable")[:limit]
    return [(ids[place], round(float(distances[place]), 4)) for place in order]


def false_duplicates(
    peer: Peer, ids: Sequence[str], codes: Code, unrelated: Callable[[str, str], bool]
) -> list[tuple[str, str]]:
    """Return the pairs of drawings within the peer's threshold that nothing relates."""
    found = []
    for number in range(1, len(ids)):
        distances = peer.nearest(codes[number], codes[:number, 0])
        near = np.flatnonzero(distances <= peer.threshold)
        found += [(ids[number], ids[one]) for one in near if unrelated(ids[number], ids[one])]
    return found
