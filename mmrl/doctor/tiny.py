"""What engines and backends are tried on: a tiny model, two prompts, and what the plain Hugging Face model does.

The reference is `repeated_outputs`: one plain call per completion on the CPU, in float32, that shares no code with the
packed passes, the key-value caches or vLLM.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmrl.errors import RunError
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.render import Renderer
from mmrl.policy.repeated import repeated_outputs
from mmrl.policy.tiny import save_tiny_model
from mmrl.tensors import pad_rows
from mmrl.types import Answer, Media, Prompt, RolloutGroup, Sample

SIDE = 84  # pixels of the picture
RATE = 1e-3
CLIP = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The model on the CPU, and its prompts: one with a picture, one without."""

    model: LoadedModel
    prompts: tuple[Prompt, ...]

    def on(self, device: str) -> LoadedModel:
        """A copy of the model there."""
        own = copy.deepcopy(self.model)
        own.policy.to(device)
        return own


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one optimiser step did."""

    logprobs: Tensor  # [N, T] before it
    norm: float  # of the gradient
    change: dict[str, Tensor]  # of each parameter


@functools.cache
def tried() -> Tried:
    """Made once in a process."""
    with tempfile.TemporaryDirectory(prefix="mmrl-doctor-model-") as name:
        folder = Path(name)
        save_tiny_model(folder / "tiny")
        model = load_model(str(folder / "tiny"))
        pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "noise.png")
        renderer = Renderer(model.processor, model.policy.family, model.policy.config)
        prompts, dropped = renderer.render([_sample("shown", folder / "noise.png"), _sample("told", None)])
        renderer.close()
    if dropped:
        raise RunError(f"the picture written for this check cannot be used: {dropped[0].detail}")
    return Tried(model=model, prompts=tuple(prompts))


def device_of(asked: str) -> str:
    """auto: a GPU where torch sees one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def tolerance(device: str) -> float:
    """Nats by which log-probabilities may differ, both sides in float32: other kernels add up in another order."""
    return 1e-4 if device == "cpu" else 1e-2


@torch.no_grad()
def distance(groups: Sequence[RolloutGroup], model: LoadedModel) -> float:
    """Largest difference between what an engine says of the policy's log-probabilities and the plain model, nats."""
    plain = repeated_outputs(model.policy, groups).logprobs
    said = pad_rows([r.policy_logprobs for g in groups for r in g.rollouts], plain.shape[1])
    return float((said - plain).abs().max())


def weights_per_token(groups: Sequence[RolloutGroup], width: int) -> Tensor:
    """The loss is minus the sum of log-probabilities times these [N, T]: each group's rollouts pull both ways."""
    rows = [
        [1.0 if rollout.index % 2 else -0.5] * len(rollout.token_ids) for group in groups for rollout in group.rollouts
    ]
    return pad_rows(rows, width) / sum(len(row) for row in rows)


def plain_update(model: LoadedModel, groups: Sequence[RolloutGroup]) -> Update:
    """The reference: the plain model's loss, torch's clipping and AdamW."""
    policy = copy.deepcopy(model.policy).train()
    logprobs = repeated_outputs(policy, groups).logprobs
    (-(weights_per_token(groups, logprobs.shape[1]) * logprobs).sum()).backward()
    parameters = dict(policy.model.named_parameters())
    norm = float(nn.utils.clip_grad_norm_(parameters.values(), CLIP))
    before = {name: value.detach().clone() for name, value in parameters.items()}
    torch.optim.AdamW(parameters.values(), lr=RATE, weight_decay=0.0).step()
    change = {name: value.detach() - before[name] for name, value in parameters.items()}
    return Update(logprobs=logprobs.detach(), norm=norm, change=change)


def _sample(name: str, picture: Path | None) -> Sample:
    return Sample(
        id=name,
        task="choice",
        question="Which one is it?",
        media=() if picture is None else (Media(type="image", path=str(picture)),),
        choices=("red", "green", "blue"),
        answer=Answer(type="choice", value="A"),
    )
