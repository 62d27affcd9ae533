"""A run folder made with the writers that runs use: a policy that learns to read digits, from a script."""

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from mmrl.evaluation.evaluate import evaluate
from mmrl.evaluation.result import EvaluationSettings
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.traces.writer import TraceWriter
from mmrl.training.metrics import MetricsLog, rollout_metrics
from mmrl.types import Answer, Dropped, Media, Sample, ScoredGroup
from tests.traces.fakes import ChoiceScorer, render, scored_group

LETTERS = "ABCDEFGHIJ"
Picture = Callable[[int], Image.Image]  # digit → how it was written
FACTS = {
    "seed": 0,
    "stages": {
        "data": {"seconds": 2.1, "peak_mib": 310.0},
        "cold_start": {"seconds": 41.0, "peak_mib": 1200.5},
        "train": {"seconds": 130.4, "peak_mib": 1834.0},
        "evaluation_after": {"seconds": 12.3, "peak_mib": 900.0},
    },
    "versions": {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.19.0"},
    "counts": {"train": 1297, "validation": 200, "test": 300},
}


def grey(digit: int) -> Image.Image:
    return Image.new("L", (56, 56), 25 * digit)


def digit_samples(folder: Path, count: int, picture: Picture = grey) -> list[Sample]:
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        digit = number * 7 % 10
        path = folder / f"{number:04}.png"
        picture(digit).save(path)
        samples.append(
            Sample(
                id=f"digits-{number:04}",
                task="digits",
                question="Which digit is written here?",
                answer=Answer(type="choice", value=LETTERS[digit]),
                media=(Media(type="image", path=str(path)),),
                choices=tuple("0123456789"),
            )
        )
    return samples


def writes(sample: Sample, skill: float, form: float, chance: random.Random) -> str:
    """What a policy of that skill writes: often right, often in the asked form."""
    right = str(sample.answer.value)
    letter = right if chance.random() < skill else chance.choice(LETTERS)
    thought = chance.choice(
        ["Let me look at the picture.", "It has a loop below and an open top.", "A bar, then a stem."]
    )
    if chance.random() < form:
        return f"<think>{thought}</think><answer>{letter}</answer>"
    return f"<think>{thought} {letter}" if chance.random() < 0.5 else f"I think it is {letter}"


def answers(sample: Sample, index: int, *, skill: float, chance: random.Random) -> str:
    return writes(sample, skill, 0.97, chance)


def centred(group: ScoredGroup) -> list[float]:
    mean = sum(group.totals) / len(group.totals)
    return [total - mean for total in group.totals]


def make_run(
    folder: Path,
    *,
    steps: int = 6,
    prompts: int = 3,
    group_size: int = 4,
    test: int = 10,
    picture: Picture = grey,
    extra: Sequence[ScoredGroup] = (),
) -> Path:
    """`runs/fake` with everything a report reads. `extra` groups are added to the last step."""
    run = folder / "runs" / "fake"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("run:\n  name: fake\n  seed: 0\n")
    samples = digit_samples(folder / "data", max(prompts, test), picture)
    chance = random.Random(0)
    log, traces = MetricsLog(run / "metrics.jsonl"), TraceWriter(run / "traces")
    for step in range(steps):
        done = step / max(steps - 1, 1)
        skill, form = 0.2 + 0.75 * done, min(1.0, 0.6 + done)
        groups = [
            scored_group(sample, [writes(sample, skill, form, chance) for _ in range(group_size)], step=step)
            for sample in chance.sample(samples, prompts)
        ]
        groups += extra if step == steps - 1 else ()
        equal = [group for group in groups if len(set(group.totals)) == 1]
        kept = [group for group in groups if group not in equal]
        drops = [Dropped(sample_id=g.group.prompt.sample.id, stage="filter", reason="all rewards equal") for g in equal]
        traces.write(
            step,
            kept,
            advantages=[centred(group) for group in kept],
            dropped=[Dropped(sample_id="torn", stage="media", reason="truncated image")],
            dropped_groups=list(zip(equal, drops, strict=True)),
        )
        log.log(
            step,
            {
                **rollout_metrics(groups, drops),
                "policy/entropy_mean": 1.4 * (1 - 0.8 * done) + 0.05 * chance.random(),
                "policy/kl_mean": 0.004 * done + 0.001 * chance.random(),
                "optim/grad_norm": 0.4 + 0.2 * chance.random(),
                "time/step_seconds": 0.8 + 0.1 * chance.random(),
                "memory/peak_mib": 1500.0 + step,
            },
        )
    supervised = MetricsLog(run / "cold_start.jsonl")
    for step in range(steps):
        supervised.log(step, {"sft/loss": 3.0 / (1 + step), "optim/grad_norm": 1.0})
    settings = EvaluationSettings(samples_per_prompt=4, ks=(1, 4), max_tokens=200, resamples=300)
    for name, skill in (("before", 0.35), ("after", 0.92)):
        dice = random.Random(name)
        engine = ScriptedEngine(partial(answers, skill=skill, chance=dice))
        result = evaluate(samples[:test], render=render, engine=engine, scorer=ChoiceScorer(), settings=settings)
        path = run / "evaluation" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result.to_json()))
    return run
