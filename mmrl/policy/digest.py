"""What tells two models apart: the content of their weights."""

from __future__ import annotations

import hashlib

import torch

from mmrl.policy.policy import Policy


def weights_digest(policy: Policy) -> str:
    """SHA-256 of every parameter and buffer that is saved: name, number format, shape and bytes, in order of names.

    The same on every device. Reads all of them once (about a second per gigabyte).
    """
    whole = hashlib.sha256()
    for name, value in sorted(policy.model.state_dict().items()):
        held = value.detach().cpu().contiguous()
        whole.update(f"{name}\x1f{held.dtype}\x1f{tuple(held.shape)}\x1f".encode())
        whole.update(held.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
