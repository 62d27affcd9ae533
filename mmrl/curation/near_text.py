"""Which questions are nearly the same: MinHash to find candidates, exact overlap to decide.

Two texts are as alike as the share of their pieces of five bytes that both have (Jaccard). The MinHash signature of a
text agrees in each entry with that probability (Broder 1997); sixteen bands of four entries, so that of pairs that are
0.8 alike 99.97 % share a band, and of pairs 0.3 alike 12 % do, which the exact comparison then refuses. Bands are found
by sorting, not in a table: a million signatures are 64 MB.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.scan import mixed

BANDS, ROWS = 16, 4
_KEPT = 2000  # texts whose pieces are kept
_TOGETHER = 256  # texts: what is computed at a time fits the processor's cache
GRAM = 5  # bytes of a piece
MOST_COMPARED = 32  # texts that stay, of one band, that a text is compared with: bounds the work on templates
_MULTIPLIERS = np.random.Generator(np.random.PCG64(0)).integers(1, 2**63, size=BANDS * ROWS, dtype=np.uint64) | 1
_SPACES = str.maketrans(dict.fromkeys(string.punctuation, " "))


def normalized(text: str) -> str:
    """Without case, punctuation and doubled spaces."""
    return " ".join(text.casefold().translate(_SPACES).split())


def pieces(text: str) -> frozenset[bytes]:
    """The pieces of a text that are compared."""
    content = _bytes(text)
    return frozenset(content[i : i + GRAM] for i in range(len(content) - GRAM + 1))


def overlap(a: str, b: str) -> float:
    """Jaccard overlap of the pieces of two texts, in [0, 1]."""
    left, right = pieces(a), pieces(b)
    return len(left & right) / len(left | right)


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """[texts, BANDS]: one number a band."""
    made = [_signatures(texts[first : first + _TOGETHER]) for first in range(0, len(texts), _TOGETHER)]
    return np.concatenate([np.zeros((0, BANDS), dtype=np.uint32), *made])


def _signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    contents = [_bytes(text) for text in texts]
    whole = np.frombuffer(b"".join(contents) + b"\0" * GRAM, dtype=np.uint8).astype(np.uint64)
    grams = np.zeros(len(whole) - GRAM, dtype=np.uint64)
    for i in range(GRAM):
        grams |= whole[i : i + len(grams)] << np.uint64(8 * i)
    lengths = np.array([len(content) for content in contents])
    starts = np.cumsum(lengths) - lengths
    # Pieces that run from one text into the next belong to none: they take the text's first piece's place.
    tails = (starts + lengths - GRAM + 1)[:, None] + np.arange(GRAM - 1)
    grams[tails] = grams[starts][:, None]
    grams = mixed(grams)
    signature = np.zeros((len(texts), BANDS), dtype=np.uint64)
    for k, multiplier in enumerate(_MULTIPLIERS):
        least = np.minimum.reduceat((grams * multiplier) >> np.uint64(32), starts)
        band = k // ROWS
        signature[:, band] = mixed(signature[:, band], least)
    return (signature >> np.uint64(32)).astype(np.uint32)


def near_rows(
    signature: NDArray[np.uint32],
    bucket: NDArray[np.uint64],
    rows: NDArray[np.int64],
    text_of: Callable[[int], str],
    *,
    threshold: float,
) -> dict[int, int]:
    """Row → the earlier row that it repeats, among `rows` of equal bucket. A row that is left out stands for none."""
    candidates: dict[int, set[int]] = {}
    for band in range(BANDS):
        key = mixed(bucket[rows], signature[rows, band].astype(np.uint64))
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        for members in _several(np.concatenate([[0], edges, [len(order)]])):
            found = rows[order[members]]
            for place, row in enumerate(found[1:].tolist(), start=1):
                candidates.setdefault(row, set()).update(found[max(0, place - MOST_COMPARED) : place].tolist())
    repeats: dict[int, int] = {}
    pieces_of = lru_cache(maxsize=_KEPT)(lambda row: pieces(text_of(row)))
    for row in sorted(candidates):
        for earlier in sorted({repeats.get(other, other) for other in candidates[row]}):
            own, other = pieces_of(row), pieces_of(earlier)
            if len(own & other) >= threshold * len(own | other):
                repeats[row] = earlier
                break
    return repeats


def _several(edges: NDArray[np.int64]) -> list[slice]:
    sizes = np.diff(edges)
    return [slice(int(edges[i]), int(edges[i + 1])) for i in np.flatnonzero(sizes > 1)]


def _bytes(text: str) -> bytes:
    return normalized(text).encode("utf-8", "surrogatepass").ljust(GRAM)
