"""Every metric mmrl logs, in one table, and the log they go into.

The log (`metrics.jsonl`) holds one JSON object per step: `{"step": 12, "reward/total_mean": 0.81, …}`. A metric that a
step did not measure is absent; one that was measured and came out infinite or not a number is null. `docs/metrics.md`
is generated from the table.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mmrl.atomic import write_atomically
from mmrl.errors import RunError, unknown_name
from mmrl.types import CORRECT_AT, Dropped, RewardStatus, ScoredGroup

UNREPRODUCIBLE_GROUPS = ("time", "memory")  # of the machine, not of the run: same seed, other values


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What one number means."""

    unit: str
    formula: str
    reading: str  # how to read it: what is healthy, what a change tells


METRICS: dict[str, Metric] = {
    # ── what the policy was paid ──
    "reward/total_mean": Metric(
        unit="reward",
        formula="mean over rollouts of Σ weight · value",
        reading="What training maximises. Rising while accuracy stands still: another reward is being farmed.",
    ),
    "reward/total_std": Metric(
        unit="reward",
        formula="mean over groups of the sample standard deviation (n − 1) of totals in the group",
        reading="The spread that advantages are made of. Near 0: nothing to learn from, whatever the mean.",
    ),
    "reward/accuracy_mean": Metric(
        unit="fraction",
        formula="mean over rollouts of accuracy",
        reading="Correctness of sampled (not greedy) answers on training samples. The curve to watch.",
    ),
    "reward/format_mean": Metric(
        unit="fraction",
        formula="mean over rollouts of format",
        reading="How often the asked form was kept. Should reach 1 early; falling late: the policy is drifting.",
    ),
    "reward/<name>_mean": Metric(
        unit="the reward's own",
        formula="mean of that reward's unweighted value over the rollouts it was asked about",
        reading="One curve per reward of the config, except rewards named total, accuracy or format: those are above.",
    ),
    "reward/<name>_failed": Metric(
        unit="rollouts",
        formula="completions on which that reward raised, gave no number, or ran out of time",
        reading="Should be 0. They earned nothing by it; the trace has the error.",
    ),
    "reward/<name>_timeouts": Metric(
        unit="rollouts",
        formula="those of the failed that ran out of time",
        reading="Should be 0. Raise timeout_seconds if the reward is slow but right.",
    ),
    "reward/<name>_cost": Metric(
        unit="the reward's own",
        formula="sum over the step of what that reward reports as its cost; absent where it reports none",
        reading="What a judge behind an interface is charging.",
    ),
    # ── what there is to learn ──
    "group/no_signal_fraction": Metric(
        unit="fraction",
        formula="share of groups whose totals are all equal",
        reading="These groups teach nothing. Above 0.5: samples are too easy (all_correct) or too hard.",
    ),
    "group/all_correct_fraction": Metric(
        unit="fraction",
        formula="share of groups in which every accuracy is at least 0.5",
        reading="Grows as training succeeds. Near 1: the data has nothing left to teach.",
    ),
    "group/all_wrong_fraction": Metric(
        unit="fraction",
        formula="share of groups in which every accuracy is below 0.5",
        reading="Should fall. Staying high: samples beyond the policy's reach, a broken reward or a broken prompt.",
    ),
    # ── what the policy wrote ──
    "rollout/length_mean": Metric(
        unit="tokens",
        formula="mean over rollouts of tokens, end token included",
        reading="Growth without accuracy: rambling. Collapse to a few tokens: reasoning was abandoned.",
    ),
    "rollout/length_correct_mean": Metric(
        unit="tokens",
        formula="length_mean over rollouts of accuracy at least 0.5; absent when there is none",
        reading="Compare with the wrong ones: length that does not help is noise, or a reward's side effect.",
    ),
    "rollout/length_wrong_mean": Metric(
        unit="tokens",
        formula="length_mean over rollouts of accuracy below 0.5; absent when there is none",
        reading="Wrong answers growing longer than right ones is the usual bias of per-sequence normalisation.",
    ),
    "rollout/truncated_fraction": Metric(
        unit="fraction",
        formula="share of rollouts cut at max_tokens",
        reading="Above 0.05: raise rollout.max_tokens, or find out why the policy does not stop.",
    ),
    "rollout/duplicate_fraction": Metric(
        unit="fraction",
        formula="mean over groups of 1 − distinct texts / rollouts",
        reading="Rises as the policy grows certain. Near 1 − 1/G: all alike, no exploration left.",
    ),
    "rollout/groups": Metric(
        unit="groups",
        formula="scored groups of the step",
        reading="Prompts asked minus those dropped before they were scored.",
    ),
    "rollout/dropped_<stage>": Metric(
        unit="samples",
        formula="samples (reward: also single rollouts) left out at that stage: media, rollout, reward or filter",
        reading="Absent when none. Media and reward should be; the trace says why. Filter is the algorithm's choice.",
    ),
    "media/dropped_<reason>": Metric(
        unit="samples",
        formula="samples left out because a picture or clip of theirs could not be used, by reason",
        reading="Absent when none. The run folder's quarantine.jsonl names the files; docs/media.md the reasons.",
    ),
    "rollout/staleness_mean": Metric(
        unit="versions",
        formula="mean over rollouts of the trained policy's version at the step's start − that of the weights they "
        "were sampled by",
        reading="0, or with rollout.ahead 1 from the second step on. What it costs is in policy/behavior_ess.",
    ),
    "rollout/staleness_max": Metric(
        unit="versions",
        formula="the largest of these",
        reading="Never above rollout.ahead.",
    ),
    "rollout/servers": Metric(
        unit="servers",
        formula="rollout servers at work when the step's completions were there, of all ranks; absent without servers",
        reading="Fewer than were started: see the notices, and docs/rollouts.md. They are tried again.",
    ),
    "rollout/<view>_accuracy": Metric(
        unit="fraction",
        formula="mean over the twins of that view (frames shuffled, …) of their mean accuracy; absent without any",
        reading="As high as reward/accuracy_mean: the policy answers without what the view takes away.",
    ),
    # ── how the policy moves ──
    "policy/entropy_mean": Metric(
        unit="nats",
        formula="mean over trained tokens of −Σ p log p",
        reading="Falls slowly in a healthy run. Falling to 0 in a few steps: collapse. Rising without end: divergence.",
    ),
    "policy/kl_mean": Metric(
        unit="nats",
        formula="mean over trained tokens of exp(d) − d − 1, d = reference − policy log-probability (k3)",
        reading="Distance from the reference policy. Absent when the algorithm has none. Sudden growth: instability.",
    ),
    "policy/ratio_mean": Metric(
        unit="ratio",
        formula="mean over trained tokens of exp(policy − old log-probability)",
        reading="1 on the first update of a step. Far from 1: too many updates, or too large ones, per step.",
    ),
    "policy/ratio_max": Metric(
        unit="ratio",
        formula="the largest of these",
        reading="Above 10 on a first update: rollouts and training disagree on the tokens.",
    ),
    "policy/behavior_gap_mean": Metric(
        unit="nats",
        formula="mean over trained tokens of |engine's − trainer's log-probability|, both untempered, the trainer's at "
        "the step's start, before its first update; without demonstrations",
        reading="How well the engine and the trainer agree. Below 1e-4 in float32, below 0.05 in bfloat16.",
    ),
    "policy/behavior_gap_max": Metric(
        unit="nats",
        formula="the largest of these",
        reading="One large value: positions, masks or pixels differ between engine and trainer for some token.",
    ),
    "policy/behavior_ess": Metric(
        unit="fraction",
        formula="effective sample size of those tokens, (Σρ)² / (tokens · Σρ²), ρ = trainer's / engine's probability, "
        "before it is truncated or masked",
        reading="1 where engine and trainer agree. Below 0.9: many tokens, or a few large ratios, are off-policy.",
    ),
    "policy/behavior_corrected_fraction": Metric(
        unit="fraction",
        formula="share of those tokens whose ρ was truncated or masked; absent where nothing is corrected",
        reading="Below 0.01 with an engine in step. Above 0.05: the step learns from what another policy wrote.",
    ),
    # ── what the algorithm's parts did ──
    "credit/advantage_size_mean": Metric(
        unit="reward, normalised or not",
        formula="mean over rollouts of |advantage|, after reweighting",
        reading="How strongly the step pushes. Near 0: its groups have nothing to tell, whatever the reward says.",
    ),
    "credit/bonus_mean": Metric(
        unit="reward",
        formula="mean over rollouts of what shaping added to the totals; absent without shaping",
        reading="Not in reward/total_mean. Rising while accuracy stands still: the bonus is being farmed.",
    ),
    "credit/bonus_fraction": Metric(
        unit="fraction",
        formula="share of rollouts whose total shaping changed; absent without shaping",
        reading="At 0 or 1 all through, the bonus tells rollouts apart by its size only, or not at all.",
    ),
    "credit/reweighted_fraction": Metric(
        unit="fraction",
        formula="share of rollouts whose advantage reweighting changed; absent without reweighting",
        reading="How often the rule applies. At 0, the algorithm is the one without it.",
    ),
    "credit/reweight_factor": Metric(
        unit="ratio",
        formula="Σ |advantage after| / Σ |advantage before reweighting|; absent without, or where all are 0",
        reading="How much the rule changes where it applies. Within 0.01 of 1: it hardly does anything.",
    ),
    "credit/divergence_weight_mean": Metric(
        unit="weight",
        formula="mean over rollouts of the weight of their divergence; absent where no part weighs it",
        reading="1 is the plain coefficient. Near 0: the policy is hardly anchored in this step.",
    ),
    "credit/demonstrations": Metric(
        unit="rollouts",
        formula="completions of the step that the policy did not write; absent without demonstrations in the plan",
        reading="At 0, no sample had what they are made of: the run is one without them.",
    ),
    "credit/masked_fraction": Metric(
        unit="fraction",
        formula="share of rollouts that carry no loss; absent where no part masks",
        reading="What was sampled and not trained on. Above 0.5, half the sampling is for nothing.",
    ),
    "credit/token_weight_mean": Metric(
        unit="weight",
        formula="mean over trained tokens of their weight in the surrogate; absent where no part weighs tokens",
        reading="The step's size relative to a run without the weights.",
    ),
    "credit/token_weight_zero_fraction": Metric(
        unit="fraction",
        formula="share of trained tokens of weight 0; absent where no part weighs tokens",
        reading="What the rule leaves out. They stay in the denominators.",
    ),
    "credit/regularizer_weight_mean": Metric(
        unit="weight",
        formula="mean over trained tokens of the weight of the regularizers; absent where no part weighs them",
        reading="How much of the text the regularizer holds.",
    ),
    "credit/regularizer_weight_zero_fraction": Metric(
        unit="fraction",
        formula="share of trained tokens that no regularizer touches; absent where no part weighs them",
        reading="1 minus the share that is held.",
    ),
    # ── the loss ──
    "loss/total": Metric(
        unit="loss",
        formula="what was minimised: surrogate + divergence + regularizers, as below",
        reading="On-policy its value says little (advantages cancel); only NaN and explosions do.",
    ),
    "loss/surrogate": Metric(
        unit="loss",
        formula="the policy-gradient part of the loss, and couplings (losses that compare rollouts)",
        reading="Near 0 on-policy with centred advantages; its gradient is what counts.",
    ),
    "loss/divergence": Metric(
        unit="loss",
        formula="coefficient · divergence from the reference policy, as aggregated into the loss; absent without one",
        reading="Larger than the surrogate's scale: the anchor dominates and learning stops.",
    ),
    "loss/regularizers": Metric(
        unit="loss",
        formula="what regularizers add to the loss, coefficients included; absent without them",
        reading="Negative where they reward. Larger than the surrogate's scale: they are what is trained.",
    ),
    "loss/clip_fraction": Metric(
        unit="fraction",
        formula="share of trained tokens whose gradient the clip stopped",
        reading="0 with a single update per step. 0.05–0.3 with several is usual; above, take smaller steps.",
    ),
    # ── the optimiser ──
    "optim/grad_norm": Metric(
        unit="norm",
        formula="global L2 norm of the gradient before it was limited to max_grad_norm; mean over the step's updates",
        reading="Spikes precede collapse. Always above max_grad_norm: the learning rate is what the limit makes of it.",
    ),
    "optim/learning_rate": Metric(
        unit="per update",
        formula="learning rate of the step's last update",
        reading="Follows train.schedule.",
    ),
    "optim/updates": Metric(
        unit="updates",
        formula="optimiser updates of the step that were made",
        reading="train.minibatches; absent in a step in which nothing was left to learn from.",
    ),
    "optim/skipped_updates": Metric(
        unit="updates",
        formula="updates that were not made because their loss or gradient was infinite or not a number",
        reading="Absent when there was none, as it should be. Their samples are in not_finite/, as traces.",
    ),
    # ── trouble ──
    "watch/<trouble>": Metric(
        unit="–",
        formula="1 in steps in which the watcher sees this trouble, by means over its window; else absent",
        reading="What was seen is in warnings.jsonl, what to try in docs/failures/.",
    ),
    # ── the run ──
    "train/prompts_seen": Metric(
        unit="samples",
        formula="samples whose rollouts were scored since the run began",
        reading="The x axis for comparing runs of different batch sizes.",
    ),
    "eval/<task>_accuracy": Metric(
        unit="fraction",
        formula="mean greedy accuracy on that task's validation samples; dropped ones count as wrong",
        reading="Parting from reward/accuracy_mean: the policy memorises its training samples.",
    ),
    "eval/<task>_format": Metric(
        unit="fraction",
        formula="mean format of that task's greedy answers on validation",
        reading="As reward/format_mean, on samples that are not trained.",
    ),
    "eval/<task>_tokens": Metric(
        unit="tokens",
        formula="mean length of that task's greedy answers on validation, end token included",
        reading="As rollout/length_mean.",
    ),
    "eval/<task>_truncated": Metric(
        unit="fraction",
        formula="share of that task's greedy answers on validation that were cut at max_tokens",
        reading="As rollout/truncated_fraction.",
    ),
    "eval/<task>_dropped": Metric(
        unit="samples",
        formula="validation samples of that task that could not be asked or scored; absent when none",
        reading="They count as wrong in accuracy. quarantine.jsonl names media that cannot be used.",
    ),
    "eval/<task>_consistent": Metric(
        unit="fraction",
        formula="share of that task's validation answers with a reasoning that concludes with the answer, by rules",
        reading="Falling while accuracy rises: answers no longer follow from what is written before them (GRPO-CARE).",
    ),
    "eval/<task>_contradicting": Metric(
        unit="fraction",
        formula="share of them whose reasoning concludes with another answer, or that give none",
        reading="Should fall. What is left beside consistent states no conclusion.",
    ),
    "eval/<task>_mra": Metric(
        unit="fraction",
        formula="mean relative accuracy of that task's numbers on validation (docs/evaluation.md)",
        reading="Graded, as VSI-Bench scores numbers, whatever the task's reward.",
    ),
    "eval/<task>_iou": Metric(
        unit="fraction",
        formula="mean intersection over union of that task's boxes or spans on validation",
        reading="Graded, whatever the task's reward.",
    ),
    "eval/<task>_iou_at_<threshold>": Metric(
        unit="fraction",
        formula="share of them that reach an IoU of 0.3, 0.5 or 0.7",
        reading="R1@IoU.",
    ),
    "sft/loss": Metric(
        unit="nats",
        formula="cold start: mean negative log-probability of the target tokens; of preferences: mean of −log σ(z)",
        reading="Should fall quickly and then flatten. Near 0: the cold start is memorising.",
    ),
    "sft/tokens": Metric(
        unit="tokens",
        formula="tokens of the step's targets, rejected ones included",
        reading="What a step costs; the budget of supervised training.",
    ),
    "sft/preferred_fraction": Metric(
        unit="fraction",
        formula="share of the step's pairs whose right target gained more than the wrong one; absent where imitating",
        reading="0.5 at first. At 1 and a loss near 0 the pairs are told apart, which is not the same as accuracy.",
    ),
    # ── the machine ──
    "time/step_seconds": Metric(
        unit="seconds", formula="wall time of the step", reading="Without evaluation and checkpoints."
    ),
    "time/rollout_seconds": Metric(
        unit="seconds", formula="wall time of sampling completions", reading="Usually the largest part."
    ),
    "time/reward_seconds": Metric(
        unit="seconds", formula="wall time of scoring", reading="More than a tenth of the step: look for a slow reward."
    ),
    "time/update_seconds": Metric(
        unit="seconds",
        formula="wall time of credit, forward, backward, optimiser and handing the weights to the engine",
        reading="Grows with packed tokens; see train.micro_batch_tokens.",
    ),
    "time/waited_seconds": Metric(
        unit="seconds",
        formula="wall time that training, done with the step, waited for the next one's rollouts (rollout.ahead)",
        reading="0 where sampling is not ahead. Most of the step: sampling is what takes time; add servers.",
    ),
    "time/<part>_seconds": Metric(
        unit="seconds", formula="wall time of another part of the step", reading="Evaluation, checkpoints and the like."
    ),
    "time/reward_<name>_ms": Metric(
        unit="milliseconds", formula="mean time of a call of that reward", reading="Which reward is the slow one."
    ),
    "time/reward_<name>_max_ms": Metric(
        unit="milliseconds",
        formula="slowest call of that reward in the step",
        reading="Near its timeout_seconds: completions exist on which it hangs.",
    ),
    "time/tokens_per_second": Metric(
        unit="tokens/s", formula="completion tokens / step_seconds", reading="Throughput of the whole step."
    ),
    "memory/peak_mib": Metric(
        unit="MiB",
        formula="largest resident memory of the process so far (CPU), or of the device's allocator (GPU)",
        reading="Still growing after the first dozens of steps: a leak.",
    ),
}

_PATTERNS = {
    name: re.compile(re.sub(r"<\w+>", ".+", name)) for name in METRICS if "<" in name
}  # a literal name goes before a pattern


def metric(name: str) -> Metric:
    """The table's entry for a logged name; raises RunError for a name that no entry covers."""
    if name in METRICS and name not in _PATTERNS:
        return METRICS[name]
    for key, pattern in _PATTERNS.items():
        if pattern.fullmatch(name) and "<" not in name:
            return METRICS[key]
    raise RunError(unknown_name("metric", name, METRICS) + " Declare it in mmrl/training/metrics.py.")


class MetricsLog:
    """Appends to `metrics.jsonl`, one object per step, on disk as soon as it is logged.

    Opening a log that a killed process left goes on after its last whole line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._last = _whole_lines(path)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics of a step. Steps ascend; a step is logged once."""
        if self._last is not None and step <= self._last:
            raise RunError(
                f"{self._path}: step {step} cannot be logged after step {self._last}. Each step is logged once; to log "
                f"it again, call discard_from({step}) first."
            )
        for name in values:
            metric(name)
        row: dict[str, float | None] = {"step": step}
        row.update({name: _json_number(value) for name, value in values.items()})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self._last = step

    def discard_from(self, step: int) -> None:
        """Remove `step` and all later ones: the run goes on from a checkpoint made before them."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] < step]
        write_atomically(self._path, b"".join(kept))
        self._last = json.loads(kept[-1])["step"] if kept else None


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The logged steps in order, each with its `step`; null reads as NaN. An unfinished last line is not there yet."""
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            row: dict[str, Any] = json.loads(line)
            rows.append({name: math.nan if value is None else value for name, value in row.items()})
        except (ValueError, AttributeError) as error:
            raise RunError(
                f"{path}:{number}: this line is no JSON object ({error}). The log was damaged after it was written; "
                f"remove the line to read the others."
            ) from error
    return rows


def reproducible(row: Mapping[str, float]) -> dict[str, float]:
    """A step's metrics without those of the machine: equal for two runs of the same config and seed."""
    return {name: value for name, value in row.items() if name.split("/")[0] not in UNREPRODUCIBLE_GROUPS}


def rollout_metrics(scored: Sequence[ScoredGroup], dropped: Sequence[Dropped] = ()) -> dict[str, float]:
    """The reward, group and rollout metrics of a step. Without any scored group only the counts are there."""
    counts: dict[str, float] = {"rollout/groups": float(len(scored))}
    for stage, count in sorted(Counter(drop.stage for drop in dropped).items()):
        counts[f"rollout/dropped_{stage}"] = float(count)
    for reason, count in sorted(Counter(drop.reason for drop in dropped if drop.stage == "media").items()):
        counts[f"media/dropped_{reason.replace(' ', '_')}"] = float(count)
    if not scored:
        return counts
    return {**_reward_metrics(scored), **_group_metrics(scored), **_length_metrics(scored), **counts}


def staleness_metrics(scored: Sequence[ScoredGroup], *, version: int) -> dict[str, float]:
    """How far behind the policy of this version the weights were that sampled; nothing without rollouts."""
    behind = [version - rollout.policy_version for group in scored for rollout in group.group.rollouts]
    if not behind:
        return {}
    return {"rollout/staleness_mean": fmean(behind), "rollout/staleness_max": float(max(behind))}


def _reward_metrics(scored: Sequence[ScoredGroup]) -> dict[str, float]:
    values = {
        "reward/total_mean": fmean(total for group in scored for total in group.totals),
        "reward/total_std": fmean(stdev(group.totals) if len(group.totals) > 1 else 0.0 for group in scored),
        "reward/accuracy_mean": fmean(value for group in scored for value in group.accuracy),
        "reward/format_mean": fmean(value for group in scored for value in group.format),
    }
    results = [entry for group in scored for result in group.results for entry in result.items()]
    for name in sorted({name for name, _ in results}):
        own = [result for key, result in results if key == name]
        values.setdefault(f"reward/{name}_mean", fmean(result.value for result in own))
        values[f"reward/{name}_failed"] = float(sum(result.status is not RewardStatus.OK for result in own))
        values[f"reward/{name}_timeouts"] = float(sum(result.status is RewardStatus.TIMEOUT for result in own))
    return values


def _group_metrics(scored: Sequence[ScoredGroup]) -> dict[str, float]:
    return {
        "group/no_signal_fraction": fmean(max(group.totals) - min(group.totals) <= 1e-9 for group in scored),
        "group/all_correct_fraction": fmean(min(group.accuracy) >= CORRECT_AT for group in scored),
        "group/all_wrong_fraction": fmean(max(group.accuracy) < CORRECT_AT for group in scored),
    }


def _length_metrics(scored: Sequence[ScoredGroup]) -> dict[str, float]:
    rollouts = [
        (rollout, accuracy)
        for group in scored
        for rollout, accuracy in zip(group.group.rollouts, group.accuracy, strict=True)
    ]
    values = {
        "rollout/length_mean": fmean(len(rollout.token_ids) for rollout, _ in rollouts),
        "rollout/truncated_fraction": fmean(rollout.truncated for rollout, _ in rollouts),
        "rollout/duplicate_fraction": fmean(
            1 - len({rollout.completion.text for rollout in group.group.rollouts}) / len(group.group.rollouts)
            for group in scored
        ),
    }
    correct = [len(rollout.token_ids) for rollout, accuracy in rollouts if accuracy >= CORRECT_AT]
    wrong = [len(rollout.token_ids) for rollout, accuracy in rollouts if accuracy < CORRECT_AT]
    if correct:
        values["rollout/length_correct_mean"] = fmean(correct)
    if wrong:
        values["rollout/length_wrong_mean"] = fmean(wrong)
    return values


def _json_number(value: float) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def _whole_lines(path: Path) -> int | None:
    """Cut an unfinished last line off; return the last step logged."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows = read_metrics(path)
    return int(rows[-1]["step"]) if rows else None
