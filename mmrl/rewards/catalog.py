"""Every reward by its name. Importing this loads no heavy package; those are imported by the rewards that use them."""

from __future__ import annotations

from typing import Any

from mmrl.errors import ConfigError, RewardError, unknown_name
from mmrl.rewards.agreement import Agreement
from mmrl.rewards.bmas import Bmas
from mmrl.rewards.chart import Chart
from mmrl.rewards.choice import Choice, MultiChoice
from mmrl.rewards.counting import CountBoxes
from mmrl.rewards.format import Format
from mmrl.rewards.iou import BoxGIoU, BoxIoU
from mmrl.rewards.iou_set import BoxSet
from mmrl.rewards.judge import Judge
from mmrl.rewards.length import CosineLength, LengthBand, SoftOverlong
from mmrl.rewards.mathematics import Math
from mmrl.rewards.number import MeanRelativeAccuracy, Number, Relative, SymmetricRelative
from mmrl.rewards.ordering import Ordering
from mmrl.rewards.point import PointDistance, PointInBox
from mmrl.rewards.repetition import Repetition
from mmrl.rewards.reward import Reward
from mmrl.rewards.spans import SpanSet, TemporalIoU
from mmrl.rewards.steps import Steps
from mmrl.rewards.text import EditDistance, Rouge, TextExact, WordErrorRate
from mmrl.types import AnswerType, Completion, Sample, Score

REWARDS: dict[str, Reward] = {
    "format": Reward(
        function=Format(),
        summary="each asked tag encloses something, once, in order",
        kind="format",
    ),
    "choice": Reward(
        function=Choice(),
        summary="names the right option and no other, by letter or text",
        kind="accuracy",
        answers=("choice",),
    ),
    "multi_choice": Reward(
        function=MultiChoice(),
        summary="share of the right options named; 0 with a wrong one (TW-GRPO)",
        kind="accuracy",
        answers=("choices", "choice"),
    ),
    "number": Reward(
        function=Number(),
        summary="the right number, exactly or within a tolerance; units are converted",
        kind="accuracy",
        answers=("number",),
    ),
    "relative": Reward(
        function=Relative(),
        summary="1 minus the relative error of a number (Video-R1)",
        kind="accuracy",
        answers=("number",),
    ),
    "symmetric_relative": Reward(
        function=SymmetricRelative(),
        summary="1 minus a number's error relative to the smaller of said and gold (vsGRPO)",
        kind="accuracy",
        answers=("number",),
    ),
    "mra": Reward(
        function=MeanRelativeAccuracy(),
        summary="mean relative accuracy of a number (VSI-Bench)",
        kind="accuracy",
        answers=("number",),
    ),
    "math": Reward(
        function=Math(),
        summary="mathematically equal, by math-verify",
        kind="accuracy",
        answers=("math", "text", "number"),
        in_process=False,
    ),
    "text_exact": Reward(
        function=TextExact(),
        summary="the same text after normalisation",
        kind="accuracy",
        answers=("text", "math"),
    ),
    "rouge": Reward(
        function=Rouge(),
        summary="mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L",
        kind="accuracy",
        answers=("text", "math"),
    ),
    "wer": Reward(
        function=WordErrorRate(),
        summary="1 minus the word error rate",
        kind="accuracy",
        answers=("text", "math"),
    ),
    "edit_distance": Reward(
        function=EditDistance(),
        summary="1 minus the normalised character edit distance (ANLS)",
        kind="accuracy",
        answers=("text", "math"),
    ),
    "chart": Reward(
        function=Chart(),
        summary="a number within 5 %, or the same text (ChartQA)",
        kind="accuracy",
        answers=("number", "text"),
    ),
    "bmas": Reward(
        function=Bmas(),
        summary="bidirectional max-average similarity of two texts (Mixed-R1)",
        kind="accuracy",
        answers=("text", "math"),
    ),
    "judge": Reward(
        function=Judge(),
        summary="graded by a model behind an OpenAI-compatible address; off until url and model are given",
        kind="accuracy",
        in_process=False,
    ),
    "iou": Reward(
        function=BoxIoU(),
        summary="intersection over union of one box",
        kind="accuracy",
        answers=("box",),
    ),
    "iou_at": Reward(
        function=BoxIoU(thresholds=(0.5,)),
        summary="share of IoU thresholds that one box reaches; by default 0.5",
        kind="accuracy",
        answers=("box",),
    ),
    "giou": Reward(
        function=BoxGIoU(),
        summary="generalised IoU of one box",
        kind="accuracy",
        answers=("box",),
        low=-1.0,
    ),
    "iou_set": Reward(
        function=BoxSet(),
        summary="several boxes by optimal matching: soft overlap, precision, recall, F1 or AP",
        kind="accuracy",
        answers=("boxes", "box"),
    ),
    "count_boxes": Reward(
        function=CountBoxes(),
        summary="as many distinct boxes as there are things",
        kind="accuracy",
        answers=("number", "boxes"),
    ),
    "point_in_box": Reward(
        function=PointInBox(),
        summary="a point inside the gold box (ScreenSpot, GUI-R1)",
        kind="accuracy",
        answers=("box", "boxes"),
    ),
    "point_distance": Reward(
        function=PointDistance(),
        summary="how near a point is to the gold point",
        kind="accuracy",
        answers=("point",),
    ),
    "temporal_iou": Reward(
        function=TemporalIoU(),
        summary="intersection over union of one span of time",
        kind="accuracy",
        answers=("span",),
    ),
    "temporal_iou_at": Reward(
        function=TemporalIoU(thresholds=(0.3, 0.5, 0.7)),
        summary="share of IoU thresholds that a span reaches (R1@IoU)",
        kind="accuracy",
        answers=("span",),
    ),
    "spans_iou": Reward(
        function=SpanSet(),
        summary="several spans of time: IoU of what they cover, or by optimal matching",
        kind="accuracy",
        answers=("spans", "span"),
    ),
    "ordering": Reward(
        function=Ordering(),
        summary="things in the right order, by Kendall's tau or exactly",
        kind="accuracy",
        answers=("choices", "text"),
    ),
    "agreement": Reward(
        function=Agreement(),
        summary="the reasoning ends at the answer that is given",
        kind="shaping",
    ),
    "steps": Reward(
        function=Steps(),
        summary="the reasoning follows the known steps, for samples that list them",
        kind="shaping",
    ),
    "length": Reward(
        function=LengthBand(),
        summary="length within a band",
        kind="shaping",
    ),
    "length_cosine": Reward(
        function=CosineLength(),
        summary="shorter when right, longer when wrong (cosine)",
        kind="shaping",
        low=-1.0,
        in_process=False,
    ),
    "soft_overlong": Reward(
        function=SoftOverlong(),
        summary="punishes the last tokens before the length limit (DAPO)",
        kind="shaping",
        low=-1.0,
        high=0.0,
    ),
    "repetition": Reward(
        function=Repetition(),
        summary="punishes repeated n-grams",
        kind="shaping",
        low=-1.0,
        high=0.0,
    ),
}

# The accuracy reward that suits an answer type where nothing else is said.
USUAL: dict[AnswerType, str] = {
    "choice": "choice",
    "choices": "multi_choice",
    "number": "number",
    "text": "text_exact",
    "math": "math",
    "box": "iou",
    "boxes": "iou_set",
    "point": "point_distance",
    "span": "temporal_iou",
    "spans": "spans_iou",
}


def reward(name: str, /, **options: Any) -> Reward:
    """A reward of the catalogue, with `options` in place of its defaults."""
    if name not in REWARDS:
        raise ConfigError(unknown_name("reward", name, REWARDS))
    return REWARDS[name].with_options(options, name=name)


def score(name: str, completion: str | Completion, sample: Sample, /, **options: Any) -> Score:
    """Score one completion here and now, without time limit.

    Example:
        score("choice", "<think>it curls</think><answer>B</answer>", sample).value
    """
    chosen = reward(name, **options)
    chosen.verify(sample, name=name)
    if chosen.needs_frames:
        raise RewardError(f"reward {name!r} asks for decoded frames; score it with a RewardScorer that can load them.")
    if isinstance(completion, str):
        completion = Completion(text=completion)
    return chosen.checked(chosen.function(completion, sample))
