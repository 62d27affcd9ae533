"""Every set of scoring rules by its name (`mmrl eval --predictions FILE --rules NAME`)."""

from __future__ import annotations

from collections.abc import Callable

from mmrl.errors import ConfigError, unknown_name
from mmrl.evaluation.benchmarks import (
    boxes,
    chartqa,
    mathvista,
    mmmu,
    r1_v,
    seed_bench_r1,
    time_r1,
    video_r1,
    vsi_bench,
)
from mmrl.evaluation.benchmarks.stored import Rules

RULES: dict[str, Callable[[], Rules]] = {
    "vsi_bench": lambda: Rules(
        summary="first word; options by letter, numbers by mean relative accuracy; mean of eight types",
        source="VSI-Bench, arXiv:2412.14171",
        fields=("question_type", "ground_truth"),
        score=vsi_bench.score,
        slice_by=(vsi_bench.KEY,),
    ),
    "seed_bench_r1": lambda: Rules(
        summary="first character of the first answer block; accuracy on L1, L2 and L3",
        source="SEED-Bench-R1, arXiv:2503.24376",
        fields=("golden_choice_idx", "task_level"),
        score=seed_bench_r1.score,
        slice_by=(seed_bench_r1.KEY,),
        id_field="sample_id",
    ),
    "video_r1": lambda: Rules(
        summary="by problem_type: same text, number, strict mean relative accuracy, word error rate, ROUGE",
        source="Video-R1, arXiv:2503.21776 (its files of MVBench, TempCompass, VideoMME, VideoMMMU, VSI-Bench, MMVU)",
        fields=("problem_type", "solution"),
        score=video_r1.score,
        slice_by=("source",),
        id_field="problem_id",
    ),
    "vlm_r1_rec": lambda: Rules(
        summary="last box of whole numbers between the braces of the first answer block; IoU above 0.5",
        source="VLM-R1's evaluation of RefCOCO, RefCOCO+, RefCOCOg, arXiv:2504.07615",
        fields=("solution",),
        score=boxes.score_box,
        slice_by=(),
    ),
    "time_r1": lambda: Rules(
        summary="last 'X to Y' of the last answer block; mean IoU and R1@0.3, 0.5, 0.7",
        source="Time-R1 (Charades-STA, ActivityNet Captions), arXiv:2503.13377",
        fields=("timestamp",),
        score=time_r1.score,
        slice_by=(),
    ),
    "screenspot": lambda: Rules(
        summary="point, or centre of a box, inside the gold box",
        source="ScreenSpot, arXiv:2401.10935, as lmms-eval scales coordinates",
        fields=("bbox",),
        score=boxes.score_point,
        slice_by=("data_type", "data_source"),
    ),
    "chartqa": lambda: Rules(
        summary="a number within 5 %, or the same text in any case",
        source="ChartQA, arXiv:2203.10244",
        fields=("answer",),
        score=chartqa.score,
        slice_by=("type",),
    ),
    "mathvista": lambda: Rules(
        summary="extracted answers in the gold's form: nearest option, whole or rounded number",
        source="MathVista, arXiv:2310.02255",
        fields=("question_type", "answer_type", "answer"),
        score=mathvista.score,
        slice_by=("task", "category"),
        id_field="pid",
    ),
    "mmmu": lambda: Rules(
        summary="options only: '(A)', ' A ', 'A.', an option's text; the last that is found, else a guess",
        source="MMMU, arXiv:2311.16502, and lmms-eval's 'A.'",
        fields=("options", "answer"),
        score=mmmu.Rule(),
        slice_by=("subfield",),
    ),
    "geoqa": lambda: Rules(
        summary="equal by math-verify, or the same text",
        source="R1-V's evaluation of GEOQA, and its reward's equality of texts",
        fields=("ground_truth",),
        score=r1_v.score_geometry,
        slice_by=(),
    ),
    "clevr_count": lambda: Rules(
        summary="the same whole number in an answer block",
        source="R1-V's evaluation of SuperCLEVR",
        fields=("ground_truth",),
        score=r1_v.score_count,
        slice_by=(),
    ),
}


def rules(name: str) -> Rules:
    """Fresh rules of that name. ConfigError, with what there is, where there are none."""
    if name not in RULES:
        raise ConfigError(unknown_name("rules", name, RULES))
    return RULES[name]()
