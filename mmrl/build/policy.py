"""The policy and its adapters, as the config says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrl.build.machine import set_up_torch
from mmrl.config.schema import Config

if TYPE_CHECKING:
    from mmrl.policy.load import LoadedModel


def load_policy(config: Config, path: str, *, to_train: bool = False) -> LoadedModel:
    """The policy at `path`, in the config's number format and on its device; in 4 bits only where it is to train."""
    import torch

    from mmrl.policy.load import load_model

    model = load_model(
        path,
        dtype=getattr(torch, config.backend.dtype),
        device=set_up_torch(config),
        trust_remote_code=config.model.trust_remote_code,
        four_bit=to_train and config.model.four_bit,
        unread=to_train and config.backend.type == "deepspeed" and config.backend.zero_stage == 3,
    )
    model.policy.kernel = config.backend.attention
    return model


def add_configured_adapters(config: Config, model: LoadedModel) -> None:
    """What `train.lora` says, for RL and cold start alike; nothing without it."""
    from mmrl.policy.adapters import add_adapters

    if config.train.lora is not None:
        add_adapters(model.policy, **config.train.lora.model_dump(), seed=config.run.seed)
