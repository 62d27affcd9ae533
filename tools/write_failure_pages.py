"""Draws, on the page of each trouble that the watcher names, what it looks at and how the trouble shows there:
`python tools/write_failure_pages.py`.

docs/failures/<name>.md is written by hand but for the part between the two marks. That part comes from the watcher: the
metrics and thresholds that its function reads, and a made-up run in which it begins, with what the watcher then says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.config.schema import WatchConfig
from mmrl.training.metrics import metric
from mmrl.training.watcher import TROUBLES, WatchSettings, page_of, troubles

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- From here on written by tools/write_failure_pages.py; do not edit by hand. -->"
END = "<!-- Up to here. -->"
STEPS = 40
_BARS = "▁▂▃▄▅▆▇█"

Curve = Sequence[float]


def _line(first: float, last: float, *, turn: int = 10, over: int = 15) -> list[float]:
    """`first` until step `turn`, then to `last` in `over` steps."""
    return [first + (last - first) * min(max((step - turn) / over, 0.0), 1.0) for step in range(STEPS)]


# Trouble → metric → its value at every step of a run that gets into it.
EXAMPLES: Mapping[str, Mapping[str, Curve]] = {
    "entropy_collapse": {
        "policy/entropy_mean": [1.2 * 0.8 ** max(step - 5, 0) + 0.02 for step in range(STEPS)],
        "reward/accuracy_mean": _line(0.25, 0.45, turn=0, over=12),
        "group/no_signal_fraction": _line(0.2, 0.85),
    },
    "kl_explosion": {
        "policy/kl_mean": [0.01 * 1.22**step for step in range(STEPS)],
        "reward/accuracy_mean": _line(0.45, 0.1, turn=22, over=12),
        "reward/format_mean": _line(0.95, 0.3, turn=24, over=12),
    },
    "format_up_accuracy_down": {
        "reward/format_mean": _line(0.55, 0.98, turn=12),
        "reward/accuracy_mean": _line(0.42, 0.2, turn=12),
    },
    "length_drift": {
        "rollout/length_mean": _line(80.0, 310.0, turn=8, over=30),
        "reward/accuracy_mean": _line(0.4, 0.4),
        "rollout/truncated_fraction": _line(0.01, 0.28, turn=20, over=20),
    },
    "no_signal": {
        "group/no_signal_fraction": _line(0.45, 0.97, turn=5, over=20),
        "group/all_correct_fraction": _line(0.05, 0.02),
        "group/all_wrong_fraction": _line(0.4, 0.95, turn=5, over=20),
    },
    "duplicates": {
        "rollout/duplicate_fraction": _line(0.1, 0.93, turn=8, over=22),
        "policy/entropy_mean": _line(0.9, 0.3, turn=8, over=22),
    },
    "truncation": {
        "rollout/truncated_fraction": _line(0.05, 0.6, turn=8, over=20),
        "rollout/length_mean": _line(180.0, 244.0, turn=8, over=20),
        "reward/accuracy_mean": _line(0.4, 0.22, turn=10, over=20),
    },
    "engine_mismatch": {
        "policy/behavior_gap_mean": _line(0.004, 0.5, turn=18, over=12),
        "policy/behavior_ess": _line(0.99, 0.2, turn=18, over=12),
        "reward/accuracy_mean": _line(0.45, 0.3, turn=24, over=14),
    },
}


class _Reads(dict[str, float]):
    """A step's metrics that notes which were asked for."""

    def __init__(self, values: Mapping[str, float], noted: dict[str, None]) -> None:
        super().__init__(values)
        self._noted = noted

    def __contains__(self, name: object) -> bool:
        self._noted[str(name)] = None
        return super().__contains__(name)


class _Settings:
    """The watcher's settings, noting which were asked for."""

    def __init__(self, noted: dict[str, None]) -> None:
        self._noted = noted

    def __getattr__(self, name: str) -> Any:
        self._noted[name] = None
        return getattr(WatchSettings(), name)


def pages() -> dict[Path, str]:
    """Every page as it should be. Raises SystemExit where one has to be begun by hand."""
    out = {}
    for name in TROUBLES:
        path = ROOT / page_of(name)
        if not path.is_file() or BEGIN not in (text := path.read_text(encoding="utf-8")):
            raise SystemExit(f"{path} is missing, or has no part for this tool: begin it like those beside it")
        out[path] = text.partition(BEGIN)[0] + drawn(name) + text.partition(END)[2]
    return out


def drawn(name: str) -> str:
    """The part that comes from the watcher."""
    if name not in EXAMPLES:
        raise SystemExit(f"tools/write_failure_pages.py has no example of {name}: draw one")
    rows = [{"step": float(s), **{m: c[s] for m, c in EXAMPLES[name].items()}} for s in range(STEPS)]
    began, message = _begins(name, rows)
    metrics: dict[str, None] = {}
    keys: dict[str, None] = {}
    TROUBLES[name]([_Reads(row, metrics) for row in rows[: began + 1]], _Settings(keys))  # type: ignore[arg-type]
    parts = [BEGIN, "\n\n", "```\n", *_chart(EXAMPLES[name], began), "```\n\n"]
    parts.append(f"In this made-up run the watcher says, at step {began}: `{name}: {message}`\n\n")
    parts.append("| it looks at | unit | what it is |\n|---|---|---|\n")
    for read in metrics:
        entry = metric(read)
        parts.append(f"| `{read}` | {entry.unit} | {entry.formula} |\n")
    parts.append("\n| threshold | default | meaning |\n|---|---|---|\n")
    for key in keys:
        info = WatchConfig.model_fields[key]
        parts.append(f"| `watch.{key}` | {info.default:g} | {info.description} |\n")
    return "".join([*parts, "\n", END])


def _begins(name: str, rows: Sequence[Mapping[str, float]]) -> tuple[int, str]:
    for step in range(len(rows)):
        found = troubles(rows[: step + 1], WatchSettings())
        if name in found:
            return step, found[name]
    raise SystemExit(f"the example of {name} does not get into it")


def _chart(curves: Mapping[str, Curve], began: int) -> Iterator[str]:
    """A bar a step, each metric from 0 to its largest value."""
    width = max(map(len, curves))
    yield f"{'':{width}}  {''.join(f'{step:<10}' for step in range(0, STEPS, 10))}\n"
    for name, values in curves.items():
        top = 1.0 if metric(name).unit == "fraction" else max(values)
        bars = "".join(_BARS[round((len(_BARS) - 1) * value / top)] for value in values)
        yield f"{name:{width}}  {bars}  {values[0]:.3g} → {values[-1]:.3g}\n"
    yield f"{'':{width}}  {' ' * began}▲ warning\n"


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
