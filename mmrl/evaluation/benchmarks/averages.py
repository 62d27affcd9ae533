"""Which benchmarks' own averages can be made of an evaluation's rows, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mmrl.evaluation.benchmarks import seed_bench_r1, vsi_bench
from mmrl.evaluation.estimators import Interval, bootstrap_of_means
from mmrl.evaluation.result import EvaluationSettings, SampleRow

Terms = Sequence[Sequence[Sequence[float]]]  # a mean of means of means: terms, their parts, the parts' values
Figures = Callable[[Sequence[SampleRow]], Mapping[str, Terms]]  # empty: these are not the benchmark's samples

AVERAGES: dict[str, Figures] = {
    "vsi_bench": vsi_bench.figures,
    "seed_bench_r1": seed_bench_r1.figures,
}


def averages(rows: Sequence[SampleRow], settings: EvaluationSettings) -> dict[str, dict[str, Interval]]:
    """Benchmark → figure → its value, with the interval of a bootstrap that keeps the size of every part."""
    found = {name: figures(rows) for name, figures in AVERAGES.items()}
    return {
        name: {
            figure: bootstrap_of_means(
                terms, seed=settings.seed, resamples=settings.resamples, confidence=settings.confidence
            )
            for figure, terms in figures.items()
        }
        for name, figures in found.items()
        if figures
    }
