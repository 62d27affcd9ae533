"""This process: its threads, seeds and device, and the ranks it works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrl.config.schema import Config
from mmrl.errors import ConfigError

if TYPE_CHECKING:
    from mmrl.ranks import Ranks


def set_up_torch(config: Config) -> str:
    """Threads and seeds of this process; returns the device to use."""
    import random

    import numpy as np
    import torch

    if config.backend.threads is not None:
        torch.set_num_threads(config.backend.threads)
    torch.manual_seed(config.run.seed)
    random.seed(config.run.seed)
    np.random.seed(config.run.seed % 2**32)
    if config.backend.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "backend.device is cuda, but torch sees no GPU here. Use auto or cpu, or install a GPU build."
        )
    if config.backend.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.backend.device


def join_ranks(config: Config) -> Ranks:
    """Meet the other processes, where a launcher started several.

    Raises ConfigError where the config has too little for so many of them.
    """
    from mmrl.build.servers import check_servers
    from mmrl.ranks import join, leave

    device = set_up_torch(config)
    ranks = join(device)
    try:
        check_servers(config, ranks, device=device)
    except ConfigError:
        leave()
        raise
    return ranks
