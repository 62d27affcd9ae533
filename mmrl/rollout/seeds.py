"""Where a rollout's randomness comes from: its name, never the batch it was sampled in."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def rollout_seed(run_seed: int, purpose: str, step: int, sample_id: str, index: int) -> int:
    """A 63-bit seed for one rollout: the same on every machine, for every batch size and engine."""
    name = f"{run_seed}\x1f{purpose}\x1f{step}\x1f{sample_id}\x1f{index}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1


def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1): token t of the rollout is drawn with number t.

    Philox is counter-based: cheap to start per rollout, and the first numbers do not depend on `count`.
    """
    return np.random.Generator(np.random.Philox(key=seed)).random(count)
