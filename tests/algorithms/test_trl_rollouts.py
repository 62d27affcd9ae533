"""TRL 1.16's whole trainer on our rollouts: two real training steps of a tiny VLM with pictures, gradients compared.

TRL gets the rollouts through `rollout_func` and does everything else itself: images, old and reference passes, rewards,
advantages, loss, backward, two optimiser updates on the same rollouts (`num_iterations`). Ours credits and trains the
same rollouts, from TRL's weights before each update. In the first update the policy is the old one; in the second the
ratios differ from 1 and clips act. float32; loss and the gradient of every parameter within 1e-5.

RLOOTrainer takes no `rollout_func`: RLOO is compared in `test_trl_parity.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import Need, Streams, Totals
from mmrl.objective.aggregation import TokenMean
from mmrl.policy.forms import question_text
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.render import Renderer
from mmrl.types import RolloutGroup
from tests import toy
from tests.policy.exactness import packed_outputs

trl = pytest.importorskip("trl", reason="parity tests need trl 1.16")
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.slow

G, MAX_TOKENS = 4, 16
REWARDS = [1.2, 0.2, 0.0, 1.0, 0.0, 0.0, 1.2, 1.0]
# Their bounds are tight: after a larger step every rollout would be clipped, and nothing left to compare.
SEQUENCE = {
    "importance_sampling_level": "sequence",
    "epsilon": 3e-4,
    "epsilon_high": 4e-4,
    "learning_rate": 3e-7,
}

# Entry → the entry as it is compared, and TRL's settings for it.
CASES: dict[str, tuple[Algorithm, dict[str, Any]]] = {
    "grpo": (ALGORITHMS["grpo"], {"loss_type": "grpo", "beta": 0.04}),
    "dr_grpo": (ALGORITHMS["dr_grpo"], {"loss_type": "dr_grpo", "scale_rewards": "none"}),
    "dapo": (replace(ALGORITHMS["dapo"], shaping=(), filters=()), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "token mean over one batch (TRL's bnpo)": (
        replace(ALGORITHMS["grpo"], aggregation=TokenMean(), divergence_aggregation=TokenMean()),
        {"loss_type": "bnpo", "beta": 0.04},
    ),
    "lite_ppo": (ALGORITHMS["lite_ppo"], {"loss_type": "dapo", "scale_rewards": "batch"}),
    "cispo": (ALGORITHMS["cispo"], {"loss_type": "cispo", "epsilon_high": 5.0}),
    "gspo": (ALGORITHMS["gspo"], {"loss_type": "grpo", **SEQUENCE}),
    "luspo": (ALGORITHMS["luspo"], {"loss_type": "luspo", **SEQUENCE}),
}


def moved(model: Any) -> Any:
    """Away from the model on disk, which is the reference: every weight by a little noise, always the same."""
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=random))
    return model


class Updates:
    """What TRL did at each optimiser update: weights before it, gradients, loss."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.losses: list[float] = []


def train_with_trl(
    folder: Path, groups: list[RolloutGroup], pictures: list[Path], settings: dict[str, Any], out: Path
) -> Updates:
    from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback

    rows = [(group.prompt, rollout) for group in groups for rollout in group.rollouts]

    def rollouts(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        assert len(prompts) == len(rows)
        return {
            "prompt_ids": [list(prompt.token_ids) for prompt, _ in rows],
            "completion_ids": [list(rollout.token_ids) for _, rollout in rows],
            "logprobs": [list(rollout.policy_logprobs) for _, rollout in rows],
        }

    def reward(completions: list[Any], **_: Any) -> list[float]:
        assert len(completions) == len(REWARDS)
        return REWARDS

    data = [
        {
            "prompt": [{"role": "user", "content": question_text(group.prompt.sample, "think_answer")}],
            "images": [Image.open(path).convert("RGB")],
        }
        for group, path in zip(groups, pictures, strict=False)
    ]
    arguments = trl.GRPOConfig(
        output_dir=str(out),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=len(rows),
        gradient_accumulation_steps=1,
        num_generations=G,
        num_iterations=2,
        max_completion_length=MAX_TOKENS,
        max_steps=2,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        shuffle_dataset=False,
        use_bias_correction_kl=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **{"beta": 0.0, "scale_rewards": "group", "learning_rate": 2e-4, **settings},
    )
    seen = Updates()

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **keys: Any) -> None:
            model = keys["model"]
            seen.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
            seen.gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    model = moved(AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32))
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(data),
        processing_class=AutoProcessor.from_pretrained(folder, padding_side="left"),
        rollout_func=rollouts,
        callbacks=[Watch()],
    )
    compute = trainer._compute_loss

    def compute_and_note(*given: Any, **keys: Any) -> Tensor:
        loss: Tensor = compute(*given, **keys)
        seen.losses.append(float(loss.detach()))
        return loss

    trainer._compute_loss = compute_and_note
    trainer.train()
    return seen


def prompts_and_rollouts(model: LoadedModel, pictures: list[Path]) -> list[RolloutGroup]:
    samples = [toy.choice_sample(f"s{i}", [path]) for i, path in enumerate(pictures)]
    policy = model.policy
    prompts, _ = Renderer(model.processor, policy.family, policy.config).render(samples)
    words = len(model.processor.tokenizer) - 40  # ordinary tokens: a placeholder would be a picture to TRL
    return [toy.random_group(p, size=G, seed=i, longest=MAX_TOKENS, vocabulary=words) for i, p in enumerate(prompts)]


@pytest.mark.parametrize("name", CASES)
def test_two_updates_equal_trl_s(name: str, tiny_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    algorithm, settings = CASES[name]
    model = load_model(str(tiny_folder))
    groups = prompts_and_rollouts(model, pictures[:2])
    seen = train_with_trl(tiny_folder, groups, pictures[:2], settings, tmp_path)
    assert len(seen.gradients) == len(seen.losses) == 2

    def logprobs(policy: Any) -> Tensor:
        with torch.no_grad():
            return packed_outputs(policy, groups, budget=100_000, head_chunk=100_000).logprobs

    reference = logprobs(model.policy)
    policy = model.policy.train()
    own = dict(policy.model.named_parameters())
    scored = [toy.scored(g, REWARDS[G * i : G * (i + 1)]) for i, g in enumerate(groups)]
    old = None
    for update in range(2):
        with torch.no_grad():
            for key, value in seen.weights[update].items():
                own[key].copy_(value)
        old = logprobs(policy) if old is None else old
        streams = Streams(old_logprobs=old, ref_logprobs=reference if Need.REF_LOGPROBS in algorithm.needs else None)
        batch = algorithm.credit(scored, streams=streams, max_tokens=MAX_TOKENS).batch
        outputs = packed_outputs(policy, groups, budget=100_000, head_chunk=100_000)
        terms = algorithm.loss(outputs, batch, Totals.of(batch))
        policy.zero_grad()
        terms.loss.backward()
        assert float(terms.loss.detach()) == pytest.approx(seen.losses[update], abs=1e-5)
        theirs = seen.gradients[update]
        largest = max(float(g.abs().max()) for g in theirs.values())
        assert largest > 1e-4  # there is something to compare
        for key, gradient in theirs.items():
            mine = own[key].grad
            assert mine is not None, key
            assert torch.allclose(mine, gradient, atol=1e-5 * max(1.0, largest)), (update, key)
        if update == 1:
            assert abs(terms.maxima["ratio"] - 1) > 1e-5  # the second update is off the old policy
