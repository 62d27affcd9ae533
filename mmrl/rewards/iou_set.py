"""Several boxes: matched so that the sum of IoUs is largest, then soft overlap, precision, recall, F1 or AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.coordinates import FoundBox, gold_points, read_boxes, said_box, verify_box, view_of
from mmrl.rewards.iou import check_thresholds, iou
from mmrl.rewards.normalize import plain
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

MOST_BOXES = 200  # of an answer that enter the matching; all of them count in the denominators

Metric = Literal["soft", "f1", "precision", "recall", "ap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSet:
    """How well the answered boxes (M) are the gold boxes (N), by `metric`:

    - soft: Σ IoU of the optimal matching / max(M, N). Superfluous boxes cost, so covering everything does not pay.
    - precision, recall, f1: hits / M, hits / N, 2 hits / (M + N), averaged over `thresholds`; a hit is a matched pair
      whose IoU reaches the threshold.
    - ap: average precision (COCO's 101 recall points), averaged over `thresholds`; the order of the answer ranks.

    Both empty ("[]" or "None" for a gold without boxes): 1. No box list at all: 0. With `labels`, boxes match only
    where the labels agree with the sample's `metadata["labels"]`. arXiv:2504.07615 matches greedily, arXiv:2505.12081
    optimally.
    """

    metric: Metric = "soft"
    thresholds: tuple[float, ...] = (0.5,)
    labels: bool = False
    media: int = 0
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if self.metric not in ("soft", "f1", "precision", "recall", "ap"):
            raise ConfigError(f"reward 'iou_set': metric is {self.metric!r}; known: ap, f1, precision, recall, soft.")
        check_thresholds("iou_set", self.thresholds)
        if not self.thresholds:
            raise ConfigError("reward 'iou_set': thresholds is empty; give at least one.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type not in ("boxes", "box"):
            raise wrong_type(sample, "iou_set", "boxes, box")
        answer = answer_text(completion, self.answer_tag)
        said = None if answer is None else read_boxes(answer)
        if said is None:
            return unanswered(completion, "boxes", self.answer_tag)
        gold = _gold_boxes(sample)
        if not said or not gold:
            return Score(value=float(not said and not gold), details={"said": len(said), "gold": len(gold)})
        overlaps = self._overlaps(said[:MOST_BOXES], gold, completion, sample)
        pairs = optimal_matching(overlaps)
        matched = [overlaps[i][j] for i, j in pairs]
        details = {
            "said": len(said),
            "gold": len(gold),
            "soft": sum(matched) / max(len(said), len(gold)),
            **self._rates(matched, len(said), len(gold)),
        }
        if self.metric == "ap":
            parts = [average_precision(overlaps, threshold, len(said)) for threshold in self.thresholds]
            details["ap"] = sum(parts) / len(parts)
        return Score(value=min(1.0, details[self.metric]), details=details)

    def verify(self, sample: Sample) -> None:
        for box in _gold_boxes(sample):
            verify_box(sample, box)
        if self.labels and len(_gold_labels(sample)) != len(_gold_boxes(sample)):
            raise RewardError(
                f"sample {sample.id!r}: reward 'iou_set' compares labels, and metadata['labels'] does not hold one "
                f"label per gold box. Add them, or set labels to false."
            )

    def prepare(self) -> None:
        optimal_matching([[1.0, 0.0], [0.0, 1.0]])

    def _overlaps(
        self, said: Sequence[FoundBox], gold: Sequence[Any], completion: Completion, sample: Sample
    ) -> list[list[float]]:
        """IoU of every answered box [M] with every gold box [N]; 0 for invalid boxes and where labels differ."""
        view = view_of(completion, self.media)
        targets = [gold_points(box, sample, view) for box in gold]
        labels = [plain(label) for label in _gold_labels(sample)] if self.labels else []
        rows = []
        for found in said:
            if not found.valid:
                rows.append([0.0] * len(targets))
                continue
            box, label = said_box(found.box, view), plain(found.label)
            agrees = [label == wanted for wanted in labels] if self.labels else [True] * len(targets)
            rows.append([iou(box, target) if agrees[j] else 0.0 for j, target in enumerate(targets)])
        return rows

    def _rates(self, matched: Sequence[float], said: int, gold: int) -> dict[str, float]:
        hits = sum(sum(overlap >= t for overlap in matched) for t in self.thresholds) / len(self.thresholds)
        return {"precision": hits / said, "recall": hits / gold, "f1": 2.0 * hits / (said + gold)}


def optimal_matching(overlaps: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (row, column) that maximise the sum of overlaps; each row and column at most once."""
    if len(overlaps) == 1 or len(overlaps[0]) == 1:
        cells = [(value, -i, -j) for i, row in enumerate(overlaps) for j, value in enumerate(row)]
        _, row, column = max(cells)
        return [(-row, -column)]
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]


def average_precision(overlaps: Sequence[Sequence[float]], threshold: float, said: int) -> float:
    """AP of one picture as COCO counts: the rows in order, each taking the best free gold box whose IoU reaches the
    threshold; precision made monotone from the right and read at the recalls 0, 0.01, …, 1.
    """
    golds = len(overlaps[0])
    free = set(range(golds))
    hits, precisions, recalls = 0, [], []
    for rank in range(1, said + 1):
        row = overlaps[rank - 1] if rank <= len(overlaps) else []
        best = max((j for j in free if row and row[j] >= threshold), key=lambda j: (row[j], -j), default=None)
        if best is not None:
            free.discard(best)
            hits += 1
        precisions.append(hits / rank)
        recalls.append(hits / golds)
    for place in range(len(precisions) - 2, -1, -1):
        precisions[place] = max(precisions[place], precisions[place + 1])
    total, place = 0.0, 0
    for step in range(101):
        while place < said and recalls[place] < step / 100 - 1e-12:
            place += 1
        total += precisions[place] if place < said else 0.0
    return total / 101


def _gold_boxes(sample: Sample) -> list[Any]:
    return [sample.answer.value] if sample.answer.type == "box" else list(sample.answer.value)


def _gold_labels(sample: Sample) -> list[str]:
    labels = sample.metadata.get("labels", ())
    return [str(label) for label in labels] if isinstance(labels, list | tuple) else []
