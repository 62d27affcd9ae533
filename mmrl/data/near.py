"""Which of many pictures look alike, found without comparing all pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from mmrl.data.fingerprint import HASH_BITS, Fingerprint

THUMBNAIL_DIFFERENCE = 10.0  # mean absolute difference of two thumbnails, of 255, up to which colours count as equal
ASPECT_DIFFERENCE = 0.05  # relative


def near_pairs(looks: Sequence[Fingerprint], *, distance: int) -> list[tuple[int, int]]:
    """All pairs (i < j) of pictures whose hashes differ in at most `distance` bits and whose thumbnails agree.

    Cuts the hash into distance + 1 bands: two hashes that differ in no more bits than that are equal in one band at
    least, so only pictures with an equal band are compared.
    """
    pairs = set()
    for rows in _buckets(looks, distance + 1):
        for place, i in enumerate(rows):
            for j in rows[place + 1 :]:
                if (i, j) not in pairs and _alike(looks[i], looks[j], distance):
                    pairs.add((i, j))
    return sorted(pairs)


def _buckets(looks: Sequence[Fingerprint], bands: int) -> Iterator[list[int]]:
    edges = [HASH_BITS * band // bands for band in range(bands + 1)]
    for low, high in pairwise(edges):
        mask = (1 << (high - low)) - 1
        same: dict[int, list[int]] = defaultdict(list)
        for index, look in enumerate(looks):
            if look.bits is not None:
                same[look.bits >> low & mask].append(index)
        yield from (rows for rows in same.values() if len(rows) > 1)


def _alike(a: Fingerprint, b: Fingerprint, distance: int) -> bool:
    if a.bits is None or b.bits is None or (a.bits ^ b.bits).bit_count() > distance:
        return False
    if abs(a.aspect / b.aspect - 1) > ASPECT_DIFFERENCE:
        return False
    difference = sum(abs(x - y) for x, y in zip(a.thumbnail, b.thumbnail, strict=True))
    return difference <= THUMBNAIL_DIFFERENCE * len(a.thumbnail)
