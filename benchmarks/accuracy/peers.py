"""
What is usually taken for this task, measured on the same queries: perceptual hashes in 8 poses.

imagehash's pHash (64 and 256 bit) and Meta's PDQ (256 bit, through pdqhash). The query is hashed
in its 8 quarter turns and mirror images; a drawing's distance is the least of the 8. Pictures are
shrunk to 512 pixels first, as PDQ's reference does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
import pdqhash
from PIL import Image

__all__ = ["PEERS", "Peer", "ranked"]

Grey = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.uint8]


class Peer:
    """
    A hash with the distance (bits) up to which its users call pictures the same.

    The usual threshold is 10 of 64 for pHash, in proportion 40 of 256, and 31 of 256 for PDQ (its
    authors' recommendation).
    """

    def __init__(self, name: str, bits: int, threshold: int, hash_one: Callable[[Grey], Bits]) -> None:
        self.name = name
        self.bits = bits
        self.threshold = threshold
        self.hash = hash_one

    def poses(self, grey: Grey) -> Bits:
        """Return the hashes of the 8 poses, packed, (8, bytes)."""
        grey = shrunk(grey)
        turned = [np.rot90(side, turn) for side in (grey, grey[:, ::-1]) for turn in range(4)]
        return np.stack([self.hash(np.ascontiguousarray(pose)) for pose in turned])


def shrunk(grey: Grey) -> Grey:
    """Return *grey* with a long side of at most 512 pixels."""
    factor = 512 / max(grey.shape)
    if factor >= 1:
        return grey
    return np.asarray(cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def _phash(size: int) -> Callable[[Grey], Bits]:
    def hash_one(grey: Grey) -> Bits:
        return np.packbits(imagehash.phash(Image.fromarray(grey), hash_size=size).hash)

    return hash_one


def _pdq(grey: Grey) -> Bits:
    bits, _ = pdqhash.compute(np.repeat(grey[:, :, None], 3, axis=2))
    return np.packbits(np.asarray(bits, np.uint8))


PEERS = (
    Peer("pHash 64", 64, 10, _phash(8)),
    Peer("pHash 256", 256, 40, _phash(16)),
    Peer("PDQ 256", 256, 31, _pdq),
)


def hash_all(pictures: Iterable[tuple[str, Grey]], cache: Path) -> tuple[list[str], dict[str, Bits]]:
    """Hash each (id, picture) with every peer; kept in *cache*, a .npz file."""
    if cache.is_file():
        with np.load(cache) as kept:
            return list(kept["ids"]), {peer.name: kept[peer.name] for peer in PEERS}
    ids: list[str] = []
    hashes: dict[str, list[Bits]] = {peer.name: [] for peer in PEERS}
    for name, grey in pictures:
        ids.append(name)
        for peer in PEERS:
            hashes[peer.name].append(peer.hash(shrunk(grey)))
    stacked = {name: np.stack(rows) for name, rows in hashes.items()}
    with cache.open("wb") as file:
        np.savez(file, allow_pickle=False, ids=np.array(ids), **stacked)
    return ids, stacked


def ranked(peer: Peer, query: Grey, ids: list[str], hashes: Bits, limit: int) -> list[tuple[str, int]]:
    """Return the *limit* nearest drawings and their distances in bits."""
    distances = np.bitwise_count(peer.poses(query)[:, None, :] ^ hashes[None]).sum(axis=2).min(axis=0)
    order = np.argsort(distances, kind="stable")[:limit]
    return [(ids[place], int(distances[place])) for place in order]
