"""The watcher: reads the metrics as they are logged and names what usually goes wrong, with what to try.

Every kind of trouble is a function from the run's last steps to a sentence, or None. All of them look at means over
`window` steps, so that one odd step is no trouble; none needs anything but the log, so a resumed run goes on watching
where it was. What to try: `docs/failures/`, one page per trouble; `docs/health.md` lists them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from mmrl.atomic import write_atomically
from mmrl.errors import RunError

FILE = "warnings.jsonl"  # in the run folder: one object per warning

Row = Mapping[str, float]
ACCURACY, FORMAT, LENGTH = "reward/accuracy_mean", "reward/format_mean", "rollout/length_mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """From where on something is called trouble. The values are our choice; none comes from a paper."""

    window: int = 10  # steps that are averaged
    entropy_share: float = 0.1  # of the first window's entropy: less is a collapse, while accuracy is below 0.9
    kl: float = 1.0  # nats per token from the reference
    change: float = 0.05  # of format upwards and accuracy downwards, from one window to the next
    length_factor: float = 2.0  # longer or shorter than the first window by this factor, without a gain in accuracy
    no_signal: float = 0.9  # share of groups whose rewards are all equal
    duplicates: float = 0.8  # share of completions that repeat another of their group
    truncated: float = 0.3  # share of completions cut at max_tokens
    gap: float = 0.2  # mean nats per token between engine and trainer
    effective: float = 0.5  # effective sample size of the engine's tokens, as a share
    stop_on: tuple[str, ...] = ()  # kinds of trouble that end the run, at a checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Trouble that began at a step."""

    step: int
    trouble: str  # a key of TROUBLES
    message: str  # what was seen, in figures
    link: str  # where it says what to try


Look = Callable[[Sequence[Row], WatchSettings], str | None]


def entropy_collapse(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    first, last = _ends("policy/entropy_mean", rows, settings)
    accuracy = _last(ACCURACY, rows, settings)
    if first is None or last is None or first <= 0 or last >= settings.entropy_share * first:
        return None
    if accuracy is not None and accuracy >= 0.9:
        return None  # it is certain because it is right
    return f"entropy fell from {first:.3g} to {last:.3g} nats per token while accuracy is {_shown(accuracy)}"


def kl_explosion(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    last = _last("policy/kl_mean", rows, settings)
    if last is None or last <= settings.kl:
        return None
    return f"the policy is {last:.3g} nats per token from its reference"


def format_up_accuracy_down(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    moved = []
    for name in (FORMAT, ACCURACY):
        before, last = _last(name, rows[: -settings.window], settings), _last(name, rows, settings)
        if before is None or last is None:
            return None
        moved.append((before, last))
    (form_before, form), (right_before, right) = moved
    if form - form_before < settings.change or right_before - right < settings.change:
        return None
    return (
        f"in {settings.window} steps format rose from {form_before:.2f} to {form:.2f} and accuracy fell from "
        f"{right_before:.2f} to {right:.2f}"
    )


def length_drift(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    first, last = _ends(LENGTH, rows, settings)
    right_first, right_last = _ends(ACCURACY, rows, settings)
    if first is None or last is None or first / settings.length_factor < last < settings.length_factor * first:
        return None
    if right_first is not None and right_last is not None and right_last > right_first + settings.change / 2:
        return None  # the length bought something
    return f"completions went from {first:.0f} to {last:.0f} tokens while accuracy is {_shown(right_last)}"


def no_signal(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    last = _last("group/no_signal_fraction", rows, settings)
    if last is None or last <= settings.no_signal:
        return None
    right, wrong = (_last(f"group/all_{word}_fraction", rows, settings) for word in ("correct", "wrong"))
    return f"{last:.0%} of the groups have equal rewards (all correct: {_shown(right)}, all wrong: {_shown(wrong)})"


def duplicates(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    last = _last("rollout/duplicate_fraction", rows, settings)
    if last is None or last <= settings.duplicates:
        return None
    return f"{last:.0%} of the completions repeat another of their group word for word"


def truncation(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    last = _last("rollout/truncated_fraction", rows, settings)
    if last is None or last <= settings.truncated:
        return None
    return f"{last:.0%} of the completions are cut at rollout.max_tokens"


def engine_mismatch(rows: Sequence[Row], settings: WatchSettings) -> str | None:
    gap = _last("policy/behavior_gap_mean", rows, settings)
    effective = _last("policy/behavior_ess", rows, settings)
    far = gap is not None and gap > settings.gap
    few = effective is not None and effective < settings.effective
    if not far and not few:
        return None
    apart = "an unknown number of" if gap is None else f"{gap:.3g}"
    return f"engine and trainer are {apart} nats per token apart; effective sample size: {_shown(effective)}"


TROUBLES: dict[str, Look] = {
    "entropy_collapse": entropy_collapse,
    "kl_explosion": kl_explosion,
    "format_up_accuracy_down": format_up_accuracy_down,
    "length_drift": length_drift,
    "no_signal": no_signal,
    "duplicates": duplicates,
    "truncation": truncation,
    "engine_mismatch": engine_mismatch,
}


def page_of(trouble: str) -> str:
    """Where it says what to try."""
    return f"docs/failures/{trouble.replace('_', '-')}.md"


def troubles(rows: Sequence[Row], settings: WatchSettings) -> dict[str, str]:
    """What is wrong after these steps: kind → sentence. Nothing before the first window is full."""
    if len(rows) < settings.window:
        return {}
    found = {name: look(rows, settings) for name, look in TROUBLES.items()}
    return {name: message for name, message in found.items() if message is not None}


class Watcher:
    """Follows a run's log; warns when trouble begins, once, and again when it ended and came back."""

    def __init__(self, run_dir: Path, settings: WatchSettings, *, logged: Sequence[Row] = ()) -> None:
        """`logged`: the metrics of the steps before, where the run was resumed."""
        self._settings = settings
        self._rows: list[Row] = list(logged)
        self._active = set(troubles(self._rows, settings))
        self._path = run_dir / FILE
        done = len(self._rows) and self._rows[-1]["step"] + 1
        kept = [w for w in read_warnings(run_dir) if w.step < done]
        if self._path.exists():
            write_atomically(self._path, b"".join(_line(w) for w in kept))

    def look(self, step: int, row: Row) -> tuple[dict[str, float], list[Warned]]:
        """The step's `watch/…` metrics, and warnings for the trouble that began with it."""
        self._rows.append({"step": step, **row})
        found = troubles(self._rows, self._settings)
        fresh = [
            Warned(step=step, trouble=name, message=found[name], link=page_of(name))
            for name in found
            if name not in self._active
        ]
        self._active = set(found)
        if fresh:
            with self._path.open("ab") as file:
                file.write(b"".join(_line(w) for w in fresh))
        return {f"watch/{name}": 1.0 for name in found}, fresh

    @property
    def reason_to_stop(self) -> str | None:
        """A sentence when trouble is there that the settings say ends the run."""
        ending = [name for name in TROUBLES if name in self._active and name in self._settings.stop_on]
        if not ending:
            return None
        found = troubles(self._rows, self._settings)
        return "; ".join(f"{name}: {found[name]} ({page_of(name)})" for name in ending)


def read_warnings(run_dir: Path) -> list[Warned]:
    """The warnings of a run, in order; none where the file is missing. An unfinished last line is not there yet."""
    path = run_dir / FILE
    if not path.is_file():
        return []
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    try:
        return [Warned(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: a line is no warning ({error}). Remove the file to go on without it.") from error


def _line(warning: Warned) -> bytes:
    return json.dumps(asdict(warning), ensure_ascii=False).encode() + b"\n"


def _last(name: str, rows: Sequence[Row], settings: WatchSettings) -> float | None:
    """Mean of a metric over the last window; None where too few steps measured it."""
    values = [row[name] for row in rows[-settings.window :] if name in row and math.isfinite(row[name])]
    return fmean(values) if 2 * len(values) >= settings.window and len(rows) >= settings.window else None


def _ends(name: str, rows: Sequence[Row], settings: WatchSettings) -> tuple[float | None, float | None]:
    """Means over the first and the last window; None until they do not overlap."""
    if len(rows) < 2 * settings.window:
        return None, None
    return _last(name, rows[: settings.window], settings), _last(name, rows, settings)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"
