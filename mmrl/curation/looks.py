"""What a picture looks like in 204 bytes, and which of many look alike.

A look is imagehash's perceptual hash (pHash: which low frequencies of the grey picture exceed their median), which
survives scaling and compression, and an 8×8 thumbnail, which tells apart what differs in colour or brightness only,
with the ratio of the sides. Cropping by a tenth, mirroring and rotation are not recognised.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

HASH_BITS = 64
LOOK = np.dtype([("bits", "<u8"), ("thumbnail", "u1", (192,)), ("aspect", "<f4")])
THUMBNAIL_DIFFERENCE = 10.0  # mean absolute difference of two thumbnails, of 255, up to which colours count as equal
ASPECT_DIFFERENCE = 0.05  # relative
_SIDE = 8
_COMPARED = 1 << 16  # pairs at a time: bounds the memory

Looks = NDArray[np.void]
Numbers = NDArray[np.int64]


def look_of(picture: Image) -> Looks:
    """One look, shape [1], of an upright RGB picture."""
    import imagehash
    from PIL import Image

    look = np.zeros(1, dtype=LOOK)
    look["bits"] = int(str(imagehash.phash(picture)), 16)
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    look["thumbnail"] = np.asarray(small, dtype=np.uint8).reshape(-1)
    look["aspect"] = picture.width / picture.height
    return look


def alike_pairs(looks: Looks, *, bits: int) -> NDArray[np.int64]:
    """[pairs, 2] with i < j: looks whose hashes differ in at most `bits` bits and whose thumbnails and sides agree.

    Cuts the hash into bits + 1 bands: two hashes that differ in no more bits than that are equal in one band at least,
    so only looks with an equal band are compared.
    """
    edges = [HASH_BITS * band // (bits + 1) for band in range(bits + 2)]
    found = [np.zeros((0, 2), dtype=np.int64)]
    for low, high in pairwise(edges):
        mask = np.uint64((1 << (high - low)) - 1)
        band = (looks["bits"] >> np.uint64(low)) & mask
        for left, right in _equal(band):
            close = _close(looks[left], looks[right], bits)
            found.append(np.stack([left[close], right[close]], axis=1))
    pairs = np.concatenate(found)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _equal(values: NDArray[np.uint64]) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs of positions with equal values: each with its next, then with the one after next, and so on."""
    order = np.argsort(values, kind="stable").astype(np.int64)
    ordered = values[order]
    step = 1
    places = np.arange(len(values))
    while True:
        places = places[places + step < len(values)]
        places = places[ordered[places] == ordered[places + step]]
        if len(places) == 0:
            return
        for first in range(0, len(places), _COMPARED):  # bounds the memory of a comparison
            piece = places[first : first + _COMPARED]
            yield order[piece], order[piece + step]
        step += 1


def _close(a: Looks, b: Looks, bits: int) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = np.bitwise_count(a["bits"] ^ b["bits"]) <= bits
    close &= np.abs(a["aspect"] / b["aspect"] - 1) <= ASPECT_DIFFERENCE
    places = np.flatnonzero(close)
    difference = np.abs(a["thumbnail"][places].astype(np.int16) - b["thumbnail"][places]).mean(axis=1)
    close[places] = difference <= THUMBNAIL_DIFFERENCE
    return close


def joined(pairs: NDArray[Any], count: int) -> NDArray[np.int64]:
    """For each of `count` things the number of its family: pairs join families, directly or through others."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, family = connected_components(graph, directed=False)
    return np.asarray(family, dtype=np.int64)
