"""A step on tensors without memory holds what a real one holds: the bytes alive when most are, phase by phase."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from mmrl import build
from mmrl.config.schema import Config
from mmrl.forecast.ledger import Ledger
from mmrl.forecast.rehearsal import OPTIMISER, PASSES, ROLLOUT, UPDATE, Rehearsed, rehearse
from mmrl.forecast.sizes import sizes_of
from mmrl.forecast.step import Shown, step_of
from mmrl.policy.policy import Policy, other_features
from mmrl.policy.skeleton import architecture, skeleton
from mmrl.policy.tiny import save_tiny_model
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.types import Prompt, RolloutGroup
from tests import toy
from tests.forecast.planned import config_of
from tests.policy.prompts import Image, prompt_of

COMPLETION = 32
CASES = [
    ("qwen2_5_vl", ()),
    ("qwen2_5_vl", ("backend.gradient_checkpointing=true", "train.micro_batch_tokens=200")),
    ("qwen2_5_vl", ("train.freeze=[vision, projector]",)),
    ("qwen2_vl", ("backend.dtype=bfloat16",)),
    ("qwen3_vl", ("train.lora={rank: 4}",)),
    ("lfm2_vl", ("train.minibatches=2",)),
    # Of these shallow copies are rehearsed.
    ("qwen2_5_vl", ("model.tiny.layers=9", "model.tiny.vision_depth=6", "train.micro_batch_tokens=200")),
]
SCALARS = 2**16  # bytes: numbers that are counted one by one


def rehearsed(config: Config, prompts: list[Prompt]) -> Rehearsed:
    tiny = config.model.tiny
    assert tiny is not None
    element = 2 if config.backend.dtype == "bfloat16" else 4
    dtype = torch.bfloat16 if element == 2 else torch.float32

    def make(layers: int, blocks: int) -> Policy:
        whole = tiny.model_dump() | {"layers": layers, "vision_depth": blocks}
        made = skeleton(architecture(None, whole), dtype=dtype)
        sizes_of(config, made, element=element)
        return made

    policy = skeleton(architecture(None, tiny.model_dump()), dtype=dtype)
    sizes = sizes_of(config, policy, element=element)
    shown = [Shown.of(prompt) for prompt in prompts]
    return rehearse(
        config,
        make,
        step_of(config, policy, shown, ranks=1, completion=COMPLETION, source=""),
        layers=sizes.layers,
        blocks=sizes.depth,
        levels=sizes.levels,
        patch_values=sizes.patch_values,
        needs_reference=True,
        ranks=1,
        cuda=False,
    )


def real(config: Config, model: toy.LoadedModel, prompts: list[Prompt]) -> dict[str, int]:
    """The same phases of the same prompts, with memory."""
    build.add_configured_adapters(config, model)
    backend = build.build_backend(
        config, model, steps=5, learning_rate=1e-4, warmup_steps=0, schedule="constant", algorithm=None
    )
    draw = random.Random(0)
    groups = [
        RolloutGroup(
            prompt=prompt,
            rollouts=tuple(
                toy.rollout([draw.randrange(20, 300) for _ in range(COMPLETION)], index=i)
                for i in range(config.rollout.group_size)
            ),
        )
        for prompt in prompts
    ]
    backend.optimizer_step()
    ledger = Ledger()
    peaks: dict[str, int] = {}

    def reached(phase: str) -> None:
        peaks[phase] = ledger.peak
        ledger.begin()

    with ledger:
        backend.begin_step()
        engine = TransformersEngine(model.policy, model.processor.tokenizer, run_seed=0)
        engine.generate(prompts, Sampling(group_size=config.rollout.group_size, max_tokens=COMPLETION), step=0)
        reached(ROLLOUT)
        with other_features(model.policy):
            backend.outputs(groups)
        if config.train.minibatches > 1:
            backend.outputs(groups)
        reached(PASSES)
        chosen = groups[: len(groups) // config.train.minibatches]
        for parts in backend.micro_batches(chosen):
            out, _ = backend.forward(parts, entropy=True)
            backend.backward(out.logprobs.sum())
            del out
        backend._finish_gradients()  # type: ignore[union-attr]
        reached(UPDATE)
        backend.optimizer_step()
        reached(OPTIMISER)
    return peaks


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if case[1] else [], id=" ".join([case[0], *case[1]]))
        for case in CASES
    ],
)
def test_a_step_without_memory_holds_what_a_real_one_holds(
    family: str, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = config_of(tmp_path, *overrides, model={"tiny": {"family": family}})
    assert config.model.tiny is not None
    save_tiny_model(tmp_path / "model", **config.model.tiny.model_dump())
    model = build.load_policy(config, str(tmp_path / "model"), to_train=True)
    shown = [Image(6, 6, 0), Image(6, 6, 1)]
    prompts = [prompt_of(name, [image], model, text=12) for name, image in zip(("a1", "b2"), shown, strict=True)]
    found = rehearsed(config, prompts)
    wanted = real(config, model, prompts)
    for phase in (PASSES, UPDATE, OPTIMISER):
        assert found.peak(phase) == pytest.approx(wanted[phase], rel=0.03, abs=SCALARS), phase
    # Which completions end, and when, is not known.
    assert 0.8 * found.peak(ROLLOUT) <= wanted[ROLLOUT] <= 1.03 * found.peak(ROLLOUT)
