"""How fast are the rewards? Scores per second of each, beside the same formula in plain Python, on one core.

    python tools/bench/rewards.py                     a table
    python tools/bench/rewards.py --seconds 2 --json  longer, for a machine

The plain versions are our own few lines of the published formulas (arXiv:2503.21776, arXiv:2504.07615): one regular
expression, one comparison, no parsing beyond it. They score less than our rewards do; they bound what parsing costs.
`math` stands beside `math-verify` called alone. The last rows go through the runtime: 100,000 completions, in groups.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from typing import Any

from mmrl.rewards.build import reward_uses
from mmrl.rewards.catalog import REWARDS
from mmrl.rewards.gold import gold_completion
from mmrl.rewards.runtime import RewardScorer
from mmrl.types import Answer, Completion, Prompt, Rollout, RolloutGroup, Sample

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_FORM = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
_FOUR = re.compile(r"\[(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\]")
_RANGE = re.compile(r"(\d+\.?\d*) (?:to|and) (\d+\.?\d*)")
_REASONING = "I look at the picture. There is a man near the door, and he is holding the handle. So I am sure of this."

Plain = Callable[[str, Any], float]


def _sample(type: Any, value: Any, **fields: Any) -> Sample:
    answer = Answer(type=type, value=value)
    return Sample(id="s", task="default", question="What is it?", answer=answer, **fields)


SAMPLES = {
    "choice": _sample("choice", "H", choices=tuple("0123456789")),
    "choices": _sample("choices", ("A", "C"), choices=("cat", "dog", "fox", "owl")),
    "number": _sample("number", 3.5),
    "text": _sample("text", "the man opens the door of the red house"),
    "math": _sample("math", "\\frac{3\\sqrt{2}}{2}"),
    "box": _sample("box", (100, 120, 340, 460)),
    "boxes": _sample("boxes", ((10, 20, 60, 90), (100, 20, 160, 90), (200, 20, 260, 90), (300, 20, 360, 90))),
    "point": _sample("point", (220, 330)),
    "span": _sample("span", (12.5, 17.75)),
    "spans": _sample("spans", ((1.0, 2.5), (5.0, 9.5))),
}


def _block(text: str) -> str:
    match = _ANSWER.search(text)
    return match[1] if match else ""


def plain_format(text: str, gold: Any) -> float:
    return float(_FORM.fullmatch(text) is not None)


def plain_equal(text: str, gold: Any) -> float:
    return float(_block(text) == gold)


def plain_number(text: str, gold: float) -> float:
    try:
        return float(round(float(_block(text).replace(",", "")), 2) == round(gold, 2))
    except ValueError:
        return 0.0


def plain_iou(text: str, gold: Any) -> float:
    match = _FOUR.search(_block(text))
    if not match:
        return 0.0
    a = [int(group) for group in match.groups()]
    width, height = min(a[2], gold[2]) - max(a[0], gold[0]), min(a[3], gold[3]) - max(a[1], gold[1])
    overlap = max(0, width) * max(0, height)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (gold[2] - gold[0]) * (gold[3] - gold[1])
    return float(overlap / (areas - overlap))


def plain_span(text: str, gold: Any) -> float:
    match = _RANGE.search(_block(text))
    if not match:
        return 0.0
    start, end = float(match[1]), float(match[2])
    return float(max(0.0, min(end, gold[1]) - max(start, gold[0])) / (max(end, gold[1]) - min(start, gold[0])))


def plain_error_rate(text: str, gold: str) -> float:
    target, said = gold.split(), _block(text).split()
    row = list(range(len(said) + 1))
    for i, word in enumerate(target, start=1):
        last, row[0] = row[0], i
        for j, other in enumerate(said, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return max(0.0, 1.0 - row[-1] / max(1, len(target)))


def rouge_package(text: str, gold: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    global _ROUGE
    _ROUGE = _ROUGE or RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    return float(sum(part.fmeasure for part in _ROUGE.score(gold, _block(text)).values()) / 3)


_ROUGE: Any = None


def math_verify_alone(text: str, gold: str) -> float:
    from math_verify import parse, verify  # type: ignore[import-untyped]

    return float(verify(parse(f"${gold}$"), parse(f"${_block(text)}$")))


# name → (answer type, options, what stands beside it)
CASES: dict[str, tuple[str, dict[str, Any], Plain | None]] = {
    "format": ("choice", {}, plain_format),
    "choice": ("choice", {}, plain_equal),
    "multi_choice": ("choices", {}, plain_equal),
    "number": ("number", {}, plain_number),
    "relative": ("number", {}, plain_number),
    "mra": ("number", {}, plain_number),
    "math": ("math", {}, math_verify_alone),
    "text_exact": ("text", {}, plain_equal),
    "rouge": ("text", {}, rouge_package),
    "wer": ("text", {}, plain_error_rate),
    "edit_distance": ("text", {}, None),
    "chart": ("number", {}, plain_number),
    "bmas": ("text", {}, None),
    "iou": ("box", {}, plain_iou),
    "iou_at": ("box", {}, plain_iou),
    "giou": ("box", {}, plain_iou),
    "iou_set": ("boxes", {}, None),
    "count_boxes": ("boxes", {}, None),
    "point_in_box": ("box", {}, None),
    "point_distance": ("point", {}, None),
    "temporal_iou": ("span", {}, plain_span),
    "temporal_iou_at": ("span", {}, plain_span),
    "spans_iou": ("spans", {}, None),
    "ordering": ("choices", {}, None),
    "agreement": ("choice", {}, None),
    "length": ("choice", {}, None),
    "length_cosine": ("choice", {"accuracy": "choice"}, None),
    "soft_overlong": ("choice", {}, None),
    "repetition": ("choice", {}, None),
}


def per_second(call: Callable[[], object], seconds: float) -> float:
    """Calls per second, the best of three rounds."""
    call()  # imports and caches
    best = 0.0
    for _ in range(3):
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 3:
            for _ in range(10):
                call()
            calls += 10
        best = max(best, calls / (time.perf_counter() - start))
    return best


def typical(answer: str, sample: Sample) -> Completion:
    """A completion of ordinary length; mathematics is answered in another spelling than the gold's."""
    if answer == "math":
        return Completion(
            text=f"<think>{_REASONING}</think><answer>\\frac{{3}}{{\\sqrt{{2}}}}</answer>", token_count=40
        )
    text = gold_completion(sample, reasoning=_REASONING).text
    return Completion(text=text, token_count=40)


def one_by_one(seconds: float) -> list[dict[str, Any]]:
    rows = []
    for name, (answer, options, beside) in CASES.items():
        sample = SAMPLES[answer]
        function = REWARDS[name].with_options(options, name=name).function
        completion = typical(answer, sample)
        prepare = getattr(function, "prepare", None)
        if prepare is not None:
            prepare()
        row: dict[str, Any] = {"reward": name, "per_second": per_second(lambda: function(completion, sample), seconds)}  # noqa: B023
        if beside is not None:
            gold = sample.answer.value
            row["beside"] = beside.__name__
            row["beside_per_second"] = per_second(lambda: beside(completion.text, gold), seconds)  # noqa: B023
        rows.append(row)
    return rows


def through_the_runtime(name: str, answer: str, completions: int = 100_000, group_size: int = 8) -> dict[str, Any]:
    sample = SAMPLES[answer]
    completion = typical(answer, sample)
    rollouts = tuple(
        Rollout(
            completion=completion,
            token_ids=(1,),
            behavior_logprobs=(0.0,),
            policy_logprobs=(0.0,),
            index=index,
            seed=index,
            policy_version=0,
        )
        for index in range(group_size)
    )
    group = RolloutGroup(prompt=Prompt(sample=sample, text="", token_ids=(1,)), rollouts=rollouts)
    with RewardScorer(reward_uses({"default": [{"name": name}]})) as rewards:
        rewards.score([group])
        start, cpu = time.perf_counter(), time.process_time()
        rewards.score([group] * (completions // group_size))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"reward": name, "completions": completions, "seconds": seconds, "cpu_seconds": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3, help="measured per reward")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = one_by_one(arguments.seconds)
    runtime = [through_the_runtime(name, answer) for name, answer in (("choice", "choice"), ("iou", "box"))]
    if arguments.json:
        print(json.dumps({"rewards": rows, "runtime": runtime}))
        return
    print(f"{'reward':16} {'scores/s':>10}   beside")
    for row in rows:
        beside = f"{row['beside_per_second']:>10,.0f}  {row['beside']}" if "beside" in row else ""
        print(f"{row['reward']:16} {row['per_second']:>10,.0f}   {beside}")
    for row in runtime:
        times = f"{row['seconds']:.2f} s, of which {row['cpu_seconds']:.2f} s on the processor"
        print(f"{row['completions']:,} {row['reward']} completions through the runtime: {times}")


if __name__ == "__main__":
    main()
