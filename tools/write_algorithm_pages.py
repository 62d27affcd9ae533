"""Writes docs/algorithms/*.md from the catalogue: `python tools/write_algorithm_pages.py`.

A page is the module's docstring, the slots that differ from GRPO, every part with its hyper-parameters and what its
docstring says of them, the metrics the entry logs, and how to run it.
"""

import inspect
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.catalog import ALGORITHMS, PARTS
from mmrl.batch import Need
from mmrl.credit.asymmetric import DifficultyAwareWeight, SuboptimalTrajectoryComplexity
from mmrl.credit.conflict import ConflictTokens, EntropyCost
from mmrl.credit.consistency import ConsistencyBonus
from mmrl.credit.group_weight import MostVaried, OnDemonstrations, ScheduledWeight, SemanticEntropy
from mmrl.credit.shaping import DivergencePaid, ShorterWhenRight, SoftOverlong, SoftTop, TwinBonus, Unlikeliness
from mmrl.credit.token_weight import ClipCovariance, DisagreementWeight, HighEntropy, HighestCovariance, MostInformative
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.ratio import SequenceRatio, SequenceTokenRatio
from mmrl.objective.regularizer import DistanceToOld, PerceptionGain
from mmrl.objective.surrogate import CappedWeight, NoSurrogate, Unclipped
from mmrl.plan.demonstrations import GroundTruth, StoredCompletion
from mmrl.plan.views import ShuffledFrames
from mmrl.training.metrics import METRICS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "algorithms"
HEAD = "<!-- Written by tools/write_algorithm_pages.py from the catalogue; do not edit by hand. -->\n"
LABELS = ("name", "title", "paper", "summary")

ALWAYS = (
    "loss/total",
    "loss/surrogate",
    "loss/clip_fraction",
    "policy/ratio_mean",
    "policy/ratio_max",
    "policy/entropy_mean",
    "group/no_signal_fraction",
    "credit/advantage_size_mean",
    "optim/grad_norm",
)
WITH_REFERENCE = ("policy/kl_mean",)
WITH_SLOT = {  # what an entry logs because it has parts in this slot
    "filters": ("rollout/dropped_<stage>",),
    "views": ("rollout/<view>_accuracy",),
    "demonstrations": ("credit/demonstrations",),
    "shaping": ("credit/bonus_mean", "credit/bonus_fraction"),
    "reweight": ("credit/reweighted_fraction", "credit/reweight_factor"),
    "divergence_weight": ("credit/divergence_weight_mean",),
    "loss_mask": ("credit/masked_fraction",),
    "token_weights": ("credit/token_weight_mean", "credit/token_weight_zero_fraction"),
    "regularizer_weight": ("credit/regularizer_weight_mean", "credit/regularizer_weight_zero_fraction"),
    "regularizers": ("loss/regularizers",),
}

# What a part changes about how a metric is to be read: (metric, part) → sentence.
READINGS: dict[tuple[str, type[Any]], str] = {
    ("loss/clip_fraction", CappedWeight): "Here: tokens whose weight is bounded. None of them loses its gradient.",
    ("loss/clip_fraction", Unclipped): "Always 0 here: nothing is clipped.",
    ("loss/clip_fraction", NoSurrogate): "Always 0 here: there is no surrogate.",
    ("loss/clip_fraction", SequenceRatio): "A rollout is clipped whole here, so this moves in larger steps.",
    ("policy/ratio_mean", SequenceRatio): "The ratio of whole rollouts, each weighing by its tokens.",
    ("policy/ratio_mean", SequenceTokenRatio): "The ratio of whole rollouts, each weighing by its tokens.",
    ("policy/ratio_max", SequenceRatio): "The largest ratio of a whole rollout.",
    ("loss/surrogate", NoSurrogate): "Here: the couplings' value.",
    ("rollout/<view>_accuracy", ShuffledFrames): "Absent where no clip has two moments: then there are no twins.",
    ("credit/bonus_fraction", TwinBonus): "Here: accurate rollouts of groups that hold their own against shuffled "
    "frames. 0 all through although accuracy is not: the data has no clips, and this is GRPO.",
    (
        "credit/bonus_fraction",
        ConsistencyBonus,
    ): "Here: accurate rollouts whose reasoning leads to their answer, as the "
    "reference sees it. Close to the share of right ones: the bonus tells nothing apart.",
    ("credit/bonus_mean", SoftOverlong): "Negative here, the penalty for nearing max_tokens. Below −0.1: raise "
    "rollout.max_tokens.",
    ("credit/bonus_mean", DivergencePaid): "Here: minus the divergence that is paid for in the reward.",
    ("credit/bonus_mean", Unlikeliness): "Here: minus what rollouts pay for having been likely.",
    ("credit/bonus_mean", ShorterWhenRight): "Here: minus what right rollouts pay for length. 0 while no group is "
    "mostly right.",
    ("credit/bonus_mean", SoftTop): "Here: a change of scale, demonstrations included.",
    ("credit/reweighted_fraction", SuboptimalTrajectoryComplexity): "Here: wrong rollouts longer than their group's "
    "right ones, where it has right ones.",
    ("credit/reweight_factor", SuboptimalTrajectoryComplexity): "With the authors' constant it is hardly above 1.",
    ("credit/reweight_factor", SemanticEntropy): "Here: how sure the groups' answers are; 1 − alpha where all differ.",
    ("credit/reweight_factor", EntropyCost): "Here: the group's size, less what uncertain rollouts lose.",
    ("credit/divergence_weight_mean", DifficultyAwareWeight): "Below 1 by what successes on hard prompts are let off.",
    ("credit/divergence_weight_mean", ScheduledWeight): "Here: the coefficient itself, as the step has it.",
    ("credit/divergence_weight_mean", OnDemonstrations): "Here: the share of rows that are rehearsed.",
    (
        "credit/demonstrations",
        StoredCompletion,
    ): "Here: rehearsed samples. 0 all through: the data was not screened, and this is GRPO without a divergence.",
    ("credit/demonstrations", GroundTruth): "Here: one per group.",
    ("credit/masked_fraction", MostVaried): "Here: the rollouts that say least; falls over the run as more are kept.",
    ("credit/token_weight_zero_fraction", HighEntropy): "Here: 1 − fraction, but for ties.",
    ("credit/token_weight_zero_fraction", ClipCovariance): "Here: the drawn tokens, few by design.",
    ("credit/token_weight_zero_fraction", MostInformative): "Here: what is left out; falls over the run.",
    ("credit/token_weight_zero_fraction", ConflictTokens): "Here: what worse rollouts share with better ones.",
    ("credit/token_weight_mean", DisagreementWeight): "From 1, where a group's expectations agree, towards alpha.",
    ("credit/regularizer_weight_mean", HighestCovariance): "Here: the share of tokens held near the old policy.",
    ("loss/regularizers", PerceptionGain): "Here: minus the reward for using the picture. Falling towards "
    "−coef · most: the policy writes what the picture makes likely and nothing else.",
    ("loss/regularizers", DistanceToOld): "0 in a step's first update: it needs several.",
}


def pages() -> dict[str, str]:
    """File name in docs/algorithms → what it should hold."""
    return {"README.md": index()} | {f"{name}.md": page(entry) for name, entry in ALGORITHMS.items()}


def index() -> str:
    """The list of all entries."""
    rows = [
        f"| [`{name}`]({name}.md) | {entry.title} | [{entry.paper}](https://arxiv.org/abs/{entry.paper}) "
        f"| {entry.summary} |"
        for name, entry in ALGORITHMS.items()
    ]
    return (
        f"# The learners\n\n{HEAD}\nSlots, how to add one, what is left out and why: [algorithms.md](../algorithms.md)."
        "\n\n| `algorithm:` | called | arXiv | what differs from GRPO |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def page(entry: Algorithm) -> str:
    """One entry's page."""
    module = import_module(f"mmrl.algorithms.{entry.name}")
    title, _, body = (inspect.getdoc(module) or "").partition("\n")
    parts = [f"# {entry.title}\n\n{HEAD}\n{title}\n\n{body.strip(chr(10))}\n"]
    parts.append(f"\n## Run it\n\n```yaml\nalgorithm: {entry.name}\n```\n\n")
    parts.append(f"A smoke run on a CPU: `mmrl run configs/algorithms/{entry.name}.yaml`.\n")
    parts.append(f"\n## {'Against GRPO' if entry.name != 'grpo' else 'Slots'}\n\n{slots(entry)}")
    parts.append(f"\n## Parts and hyper-parameters\n\n{hyper_parameters(entry)}")
    parts.append(f"\n## Metrics\n\n{metrics(entry)}")
    return "".join(parts)


def slots(entry: Algorithm) -> str:
    """Slot by slot: all of them for GRPO itself, those that differ for the others."""
    base = ALGORITHMS["grpo"]
    rows = []
    for slot in fields(Algorithm):
        mine, theirs = getattr(entry, slot.name), getattr(base, slot.name)
        if slot.name in LABELS or (entry is not base and mine == theirs):
            continue
        cells = [f"`{slot.name}`", slot_text(slot.name, mine)]
        rows.append(cells if entry is base else [cells[0], slot_text(slot.name, theirs), cells[1]])
    titles = ["slot", "GRPO"] if entry is base else ["slot", "GRPO", entry.title]
    return table(titles, rows)


def hyper_parameters(entry: Algorithm) -> str:
    """Every part with its values, and its docstring, which says where they come from."""
    found = []
    for slot in fields(Algorithm):
        if slot.name in LABELS:
            continue
        value = getattr(entry, slot.name)
        for part in value if isinstance(value, tuple) else (value,):
            found.append((slot.name, part))
    blocks = []
    for slot_name, part in found:
        values = table(["hyper-parameter", "value"], [[f"`{n}`", f"`{v}`"] for n, v in settings(part)])
        doc = inspect.getdoc(type(part)) or ""
        blocks.append(
            f"### `{slot_name}`: {part_name(slot_name, part)}\n\n{doc}\n" + (f"\n{values}" if settings(part) else "")
        )
    return "\n".join(blocks)


def metrics(entry: Algorithm) -> str:
    """The metrics to watch, with what they mean for this entry."""
    names = [*ALWAYS]
    if Need.REF_LOGPROBS in entry.needs:
        names += WITH_REFERENCE
    if not isinstance(entry.divergence, NoDivergence):
        names.append("loss/divergence")
    for slot, own in WITH_SLOT.items():
        if getattr(entry, slot):
            names += own
    kinds = {type(part) for part in entry.parts}
    rows = []
    for name in names:
        extra = [text for (metric, kind), text in READINGS.items() if metric == name and kind in kinds]
        rows.append([f"`{name}`", METRICS[name].formula, " ".join([METRICS[name].reading, *extra])])
    return table(["metric", "what it is", "how to read it"], rows) + "\nAll others: [metrics.md](../metrics.md).\n"


def slot_text(slot: str, value: Any) -> str:
    """The part or parts of a slot, as YAML would say it."""
    if isinstance(value, tuple):
        return ", ".join(slot_text(slot, part) for part in value) or "–"
    values = ", ".join(f"{name}: {setting}" for name, setting in settings(value))
    return f"`{part_name(slot, value)}`" + (f" ({values})" if values else "")


def part_name(slot: str, part: Any) -> str:
    """The part's name in the table of parts."""
    return next(name for name, kind in PARTS[slot].items() if kind is type(part))


def settings(part: Any) -> list[tuple[str, Any]]:
    """A part's hyper-parameters with their values."""
    return [(field.name, getattr(part, field.name)) for field in fields(part)]


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
