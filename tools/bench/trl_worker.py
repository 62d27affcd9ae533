"""TRL's side of a comparison: its `GRPOTrainer` on the same model, pictures and rewards, one step per order.

Settings that differ from TRL's defaults are those that make both sides the same (see docs/benchmarks.md): numbers in
`dtype`, no gradient checkpointing, the textbook divergence, no shuffling, a constant learning rate.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import datasets  # type: ignore[import-untyped]
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from mmrl import build
from mmrl.policy.forms import question_text
from mmrl.rewards.runtime import RewardScorer
from mmrl.types import Completion, FinishReason, Prompt, Rollout, RolloutGroup, Sample
from tools.bench.cell import Cell
from tools.bench.counting import Counts
from tools.bench.gate import Gate
from tools.bench.held_out import HeldOut
from tools.bench.mmrl_worker import STEPS, config_of


def main() -> None:
    cell = Cell.load(sys.argv[1])
    logging.disable(logging.WARNING)
    config = config_of(cell)  # for rewards and evaluation, so that both sides are scored by the same code
    samples = cell.samples()
    processor = AutoProcessor.from_pretrained(cell.model, padding_side="left")
    model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(cell.model, dtype=getattr(torch, cell.dtype))
    if cell.freeze_vision:
        model.model.visual.requires_grad_(False)
    counts = Counts()
    held_out = HeldOut.of(cell, config)
    gate = Gate(counts, evaluate=None if held_out is None else lambda: held_out.accuracy(model))
    with build.build_scorer(config, samples) as scorer:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward_function(samples, scorer, cell.group_size),
            args=settings(cell, model.config),
            train_dataset=rows(samples, cell),
            processing_class=processor,
            callbacks=[Stepping(gate)],
        )
        prompts = prompt_sizes(processor, trainer.train_dataset, cell)
        counts.policy(model)
        counts.images_of(processor.image_processor)
        model.generate = counts.generation(model.generate)
        gate.ready(prompts=prompts, model_mib=sum(p.nbytes for p in model.parameters()) / 2**20)
        trainer.train()


def settings(cell: Cell, config: Any) -> GRPOConfig:
    """TRL's arguments for the cell."""
    generation: dict[str, Any] = {"suppress_tokens": [config.image_token_id, config.video_token_id]}
    completions = cell.prompts * cell.group_size
    at_once = cell.rows_at_once or completions
    if cell.exact_length:
        generation["min_new_tokens"] = cell.completion_tokens
    return GRPOConfig(
        output_dir=cell.folder,
        seed=cell.seed,
        use_cpu=cell.device == "cpu",
        bf16=cell.dtype == "bfloat16",
        gradient_checkpointing=False,
        per_device_train_batch_size=at_once,  # counted in completions
        gradient_accumulation_steps=completions // at_once,
        num_generations=cell.group_size,
        max_completion_length=cell.completion_tokens,
        max_steps=STEPS,
        learning_rate=cell.learning_rate,
        lr_scheduler_type="constant_with_warmup" if cell.warmup_steps else "constant",
        warmup_steps=cell.warmup_steps,
        beta=cell.beta,
        loss_type="grpo",
        use_bias_correction_kl=False,
        scale_rewards="group",
        temperature=1.0,
        shuffle_dataset=False,
        generation_kwargs=generation,
        dataloader_pin_memory=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )


def rows(samples: Sequence[Sample], cell: Cell) -> datasets.Dataset:
    """The samples as TRL's users write them: a question as mmrl asks it, a picture that is decoded when fetched."""
    mode: Any = cell.mode  # a Literal of mmrl's
    table = {
        "prompt": [[{"role": "user", "content": question_text(s, mode)}] for s in samples],
        "image": [s.media[0].path for s in samples],
        "sample": list(range(len(samples))),
    }
    return datasets.Dataset.from_dict(table).cast_column("image", datasets.Image())


def prompt_sizes(processor: Any, dataset: datasets.Dataset, cell: Cell) -> list[tuple[int, int]]:
    """(prompt tokens, vision patches) of each prompt of the last step."""
    sizes = []
    for row in dataset.select(range(len(dataset) - cell.prompts, len(dataset))):
        content = [{"type": "image", "image": row["image"]}, {"type": "text", "text": row["prompt"][0]["content"]}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        sizes.append((inputs["input_ids"].shape[1], inputs["pixel_values"].shape[0]))
    return sizes


def reward_function(samples: Sequence[Sample], scorer: RewardScorer, group_size: int) -> Any:
    """mmrl's rewards as TRL calls a reward: completions of one prompt follow one another."""

    def total(completions: Any, completion_ids: Any, sample: Sequence[int], **columns: Any) -> list[float]:
        groups = []
        for first in range(0, len(completions), group_size):
            found = samples[sample[first]]
            rollouts = tuple(
                rollout(completions[i][0]["content"], tuple(completion_ids[i]), i - first)
                for i in range(first, first + group_size)
            )
            groups.append(RolloutGroup(prompt=Prompt(sample=found, text="", token_ids=(0,)), rollouts=rollouts))
        scored, dropped = scorer.score(groups)
        assert not dropped, dropped
        return [value for group in scored for value in group.totals]

    return total


def rollout(text: str, token_ids: tuple[int, ...], index: int) -> Rollout:
    """What a reward reads of a completion."""
    return Rollout(
        completion=Completion(text=text, token_count=len(token_ids), finish_reason=FinishReason.STOP),
        token_ids=token_ids,
        behavior_logprobs=(0.0,) * len(token_ids),
        policy_logprobs=(0.0,) * len(token_ids),
        index=index,
        seed=index,
        policy_version=0,
    )


class Stepping(TrainerCallback):
    """Stops TRL's loop after every step."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._gate.step_done()


if __name__ == "__main__":
    torch.set_num_threads(Cell.load(sys.argv[1]).threads)
    main()
