"""Writes docs/metrics.md from the table of metrics: `python tools/write_metrics_page.py`."""

from itertools import groupby
from pathlib import Path

from mmrl.training.metrics import METRICS

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"

HEAD = """\
# Metrics

<!-- Written by tools/write_metrics_page.py from the table in mmrl/training/metrics.py; do not edit by hand. -->

`metrics.jsonl` holds one JSON object per step, with `step` and the metrics below. A metric that a step did not measure
is absent; one that came out infinite or not a number is `null`. A name in angle brackets stands for any: a reward of
the config, a task of the data, a stage at which samples are dropped.

Two runs of the same config and seed log the same values, the groups `time` and `memory` apart.
"""


def metrics_page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for group, names in groupby(METRICS, key=lambda name: name.split("/")[0]):
        parts.append(f"\n## {group}\n\n| metric | unit | what it is | how to read it |\n|---|---|---|---|\n")
        for name in names:
            entry = METRICS[name]
            cells = [f"`{name}`", entry.unit, entry.formula, entry.reading]
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(metrics_page(), encoding="utf-8")
