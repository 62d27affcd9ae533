"""A run folder made with the writers that runs use: boxes on pictures, spans in a real clip, choices; real rewards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from mmrl.data.manifest import write_manifest
from mmrl.rewards.build import reward_uses
from mmrl.rewards.runtime import RewardScorer
from mmrl.traces.writer import TraceWriter
from mmrl.training.metrics import MetricsLog
from mmrl.types import (
    Answer,
    Completion,
    Dropped,
    FinishReason,
    Media,
    MediaView,
    Prompt,
    Rollout,
    RolloutGroup,
    Sample,
    ScoredGroup,
)
from tests.clips import write_clip

REWARDS: dict[str, list[dict[str, Any]]] = {
    "box": [{"name": "iou", "weight": 1.0}, {"name": "format", "weight": 0.2}],
    "span": [{"name": "temporal_iou", "weight": 1.0}, {"name": "format", "weight": 0.2}],
    "choice": [{"name": "choice", "weight": 1.0}, {"name": "format", "weight": 0.2}],
}
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert('y')>${alert('z')}{{this}}<b>bold</b>"
BOX = (40, 30, 100, 80)  # the gold one, of a picture of 160×120 pixels; the model speaks 0–1000
RIGHT_BOX, NEAR_BOX = "[250, 250, 625, 667]", "[300, 250, 625, 667]"


def answered(thought: str, answer: str) -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


# Sample → what the policy writes at each of its visits.
WRITTEN: dict[str, list[list[str]]] = {
    "box-1": [
        [answered("left", RIGHT_BOX), answered("wide", "[0, 0, 200, 200]"), "no form", answered("?", "nowhere")],
        [answered("left", RIGHT_BOX), answered("near", NEAR_BOX), answered("wide", "[0, 0, 999, 999]"), "cut"],
    ],
    "span-1": [[answered("early", "0.5 to 1.5"), answered("late", "2 to 2.9"), answered("?", "3 to 1"), "x"]],
    "choice-1": [[answered("It must be A.", "B"), answered("So B.", "A"), HOSTILE, answered("So B.", HOSTILE)]],
    "choice-2": [[answered("So B.", "B")] * 4, [answered("So B.", "B")] * 4],
}
STEPS = (("box-1", "choice-1"), ("choice-2", "span-1"), ("box-1", "choice-2"))


@cache
def _tokenizer() -> Any:
    from mmrl.policy.tiny_tokenizer import tiny_tokenizer

    return tiny_tokenizer(["<|im_end|>"])


def make_samples(folder: Path) -> list[Sample]:
    """Three tasks, with a picture or a clip each; `manifest.jsonl` names them all."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (160, 120), "#dfe6ee")
    ImageDraw.Draw(picture).rectangle(BOX, fill="#c22")
    picture.save(folder / "scene.png")
    write_clip(folder / "clip.mp4", 24)  # 3 s
    scene = (Media(type="image", path=str(folder / "scene.png")),)
    clip = (Media(type="video", path=str(folder / "clip.mp4"), fps=2.0),)
    question = "Which letter is right?"
    samples = [
        Sample(
            id="box-1", task="box", question="Where is the red box?", answer=Answer(type="box", value=BOX), media=scene
        ),
        Sample(id="span-1", task="span", question="When?", answer=Answer(type="span", value=(0.5, 1.5)), media=clip),
        Sample(
            id="choice-1",
            task="choice",
            question=question,
            answer=Answer(type="choice", value="B"),
            choices=("one", "two"),
        ),
        Sample(
            id="choice-2",
            task="choice",
            question=question,
            answer=Answer(type="choice", value="B"),
            media=scene,
            choices=("one", "two"),
        ),
        Sample(
            id="never-1",
            task="choice",
            question="Nobody asked this.",
            answer=Answer(type="choice", value="A"),
            media=scene,
            choices=("one", "two"),
        ),
    ]
    write_manifest(folder / "manifest.jsonl", samples)
    return samples


def view_of(sample: Sample) -> tuple[MediaView, ...]:
    if not sample.media:
        return ()
    if sample.media[0].type == "video":
        seconds = tuple(i / 2 for i in range(6))
        frames = tuple(4 * i for i in range(6))
        return (
            MediaView(
                width=96, height=64, spoken_width=96, spoken_height=64, seconds=seconds, frames=frames, reader="pyav"
            ),
        )
    return (MediaView(width=160, height=120, spoken_width=1000, spoken_height=1000),)


def group_of(sample: Sample, texts: Sequence[str], *, step: int) -> RolloutGroup:
    views = view_of(sample)
    prompt = Prompt(sample=sample, text=f"user: {sample.question}", token_ids=(0, 1, 2), views=views)
    rollouts = []
    for index, text in enumerate(texts):
        ids = (*_tokenizer().encode(text), 0)
        cut = text == "cut"
        rollouts.append(
            Rollout(
                completion=Completion(
                    text=text,
                    token_count=len(ids),
                    finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
                    views=views,
                ),
                token_ids=ids,
                behavior_logprobs=tuple(-0.01 * i for i in range(len(ids))),
                policy_logprobs=tuple(-0.01 * i for i in range(len(ids))),
                index=index,
                seed=index,
                policy_version=step,
            )
        )
    return RolloutGroup(prompt=prompt, rollouts=tuple(rollouts))


def write_step(traces: TraceWriter, step: int, groups: Sequence[ScoredGroup], *, drops: Sequence[Dropped] = ()) -> None:
    """Groups whose rewards are all equal are left out by a filter; the others have entropy and KL per token."""
    kept = [group for group in groups if len(set(group.totals)) > 1]
    equal = [
        (group, Dropped(sample_id=group.group.prompt.sample.id, stage="filter", reason="all correct"))
        for group in groups
        if group not in kept
    ]
    advantages = [[total - sum(g.totals) / len(g.totals) for total in g.totals] for g in kept]
    per_token = [[[0.1 * i for i in range(len(r.token_ids))] for r in g.group.rollouts] for g in kept]
    traces.write(
        step,
        kept,
        advantages=advantages,
        dropped=drops,
        dropped_groups=equal,
        streams={"entropy": per_token, "kl": per_token, "correction": per_token},
    )


def make_run(folder: Path, *, name: str = "made", rate: float = 1e-3) -> Path:
    """`<folder>/<name>`: config, metrics, a warning, traces of three steps, two evaluations, a tokenizer."""
    samples = {sample.id: sample for sample in make_samples(folder / "media")}
    run = folder / name
    run.mkdir()
    config = {
        "run": {"name": name},
        "data": {"train": str(folder / "media" / "manifest.jsonl")},
        "rewards": REWARDS,
        "train": {"learning_rate": rate},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "checkpoints" / "step_000003").mkdir(parents=True)
    _tokenizer().backend_tokenizer.save(str(run / "checkpoints" / "step_000003" / "tokenizer.json"))
    traces, log = TraceWriter(run / "traces"), MetricsLog(run / "metrics.jsonl")
    visits: dict[str, int] = {}
    with RewardScorer(reward_uses(REWARDS)) as rewards:
        for step, ids in enumerate(STEPS):
            groups = []
            for id_ in ids:
                visit = visits[id_] = visits.get(id_, -1) + 1
                groups.append(group_of(samples[id_], WRITTEN[id_][visit], step=step))
            scored, _ = rewards.score(groups)
            torn = [Dropped(sample_id="torn-1", stage="media", reason="truncated image")] if step == 1 else []
            write_step(traces, step, scored, drops=torn)
    for step in range(len(STEPS)):
        log.log(
            step,
            {
                "reward/accuracy_mean": 0.2 * step,
                "reward/total_mean": 0.1 + rate * step,
                "rollout/length_mean": 20.0 - step,
            },
        )
    warning = {
        "step": 1,
        "trouble": "no_signal",
        "message": "95% of the groups have equal rewards",
        "link": "docs/failures/no-signal.md",
    }
    (run / "warnings.jsonl").write_text(json.dumps(warning) + "\n")
    write_evaluations(run, list(samples.values()))
    return run


def write_evaluations(run: Path, samples: Sequence[Sample]) -> None:
    """Before: box right, choices wrong. After: box wrong (lost), both choices right (won)."""
    from functools import partial

    from mmrl.evaluation.evaluate import evaluate
    from mmrl.evaluation.result import EvaluationSettings
    from mmrl.rollout.scripted_engine import ScriptedEngine

    asked = [sample for sample in samples if sample.id != "never-1"]
    said = {
        "before": {
            "box-1": answered("left", RIGHT_BOX),
            "span-1": "x",
            "choice-1": answered("", "A"),
            "choice-2": answered("", "A"),
        },
        "after": {
            "box-1": answered("?", "[0, 0, 1, 1]"),
            "span-1": "x",
            "choice-1": answered("", "B"),
            "choice-2": answered("", "B"),
        },
    }

    def render(chosen: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        return [Prompt(sample=s, text=s.question, token_ids=(0,), views=view_of(s)) for s in chosen], []

    def speak(texts: dict[str, str], sample: Sample, index: int) -> str:
        return texts[sample.id]

    settings = EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=400, resamples=100)
    (run / "evaluation").mkdir(exist_ok=True)
    for name, texts in said.items():
        with RewardScorer(reward_uses(REWARDS)) as rewards:
            result = evaluate(
                asked, render=render, engine=ScriptedEngine(partial(speak, texts)), scorer=rewards, settings=settings
            )
        (run / "evaluation" / f"{name}.json").write_text(json.dumps(result.to_json()))
