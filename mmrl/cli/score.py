"""`mmrl score`: what stored completions are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mmrl.rewards.runtime import RewardUse
    from mmrl.types import Completion, RewardResult, Sample

_SAMPLE_KEYS = ("id", "task", "question", "media", "choices", "answer", "metadata")
_LISTED = 10  # bad lines that one message names


def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Completions, as JSON lines.", show_default=False)],
    reward: Annotated[str, typer.Option("--reward", "-r", help="A name of `mmrl list rewards`, or module:function.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the scored lines go.", show_default="standard output")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="KEY=VALUE: an option of the reward. May be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds per line, where a reward can be killed.")] = 5.0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes for rewards that need one.")] = 2,
) -> None:
    """Score stored completions again.

    Each line has `completion` and `answer` (as in a manifest) and, where the reward uses them, the other fields of a
    sample and `token_count`. Each output line is the input line with `score` and `details`.

    \b
    Examples:
      mmrl score answers.jsonl --reward choice
      mmrl score answers.jsonl --reward number --option relative_tolerance=0.05 --out scored.jsonl
    """
    import json
    import sys

    from mmrl.atomic import write_atomically
    from mmrl.rewards.build import reward_use

    entry: dict[str, Any] = {"path": reward} if ":" in reward else {"name": reward}
    entry |= {"options": _options(option or []), "timeout_seconds": timeout}
    use = reward_use(entry, where="--reward")
    rows, samples, completions = _read(file, use)
    results = _results(use, samples, completions, workers)
    lines = []
    for row, result in zip(rows, results, strict=True):
        scored = {**row, "score": result.value, "details": dict(result.details)}
        if result.status != "ok":
            scored["status"] = str(result.status)
        lines.append(json.dumps(scored, ensure_ascii=False) + "\n")
    if out is None:
        sys.stdout.write("".join(lines))
    else:
        write_atomically(out, "".join(lines).encode())
    failed = sum(result.status != "ok" for result in results)
    mean = sum(result.value for result in results) / len(results)
    tail = f", {failed} failed" if failed else ""
    print(f"{use.name}: {len(results)} completions, mean {mean:.4f}{tail}", file=sys.stderr)


def _options(given: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs; values are read as YAML."""
    import yaml

    from mmrl.errors import ConfigError

    found = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--option {item!r}: write KEY=VALUE, like tolerance=0.5.")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--option {item!r}: {value!r} is no YAML value.") from None
    return found


def _read(file: Path, use: RewardUse) -> tuple[list[dict[str, Any]], list[Sample], list[Completion]]:
    """Rows, samples and completions of a file; a `DataError` that names the bad lines where there are any."""
    from mmrl.data.jsonl import read_json_lines
    from mmrl.errors import DataError, MmrlError

    rows, samples, completions, bad = [], [], [], []
    for number, row in read_json_lines(file):
        where = f"{file}:{number}"
        try:
            if isinstance(row, DataError):
                raise DataError(f"{where}: {row}")
            sample, completion = _parse(row, where, number, file)
            rows.append(row)
            samples.append(sample)
            completions.append(completion)
            try:
                use.reward.verify(sample, name=use.name)
            except MmrlError as error:
                raise DataError(f"{where}: {error}") from None
        except DataError as error:
            bad.append(str(error))
    if bad:
        more = [f"… and {len(bad) - _LISTED} more bad lines"] if len(bad) > _LISTED else []
        raise DataError("\n".join([*bad[:_LISTED], *more, "Nothing was scored."]))
    if not rows:
        raise DataError(f"{file} holds no completion. Write one JSON object per line, with completion and answer.")
    return rows, samples, completions


def _parse(row: Any, where: str, number: int, file: Path) -> tuple[Sample, Completion]:
    from mmrl.data.manifest import parse_sample
    from mmrl.errors import DataError
    from mmrl.types import Completion

    if not isinstance(row, dict):
        raise DataError(f"{where}: the line is no JSON object; write {{'completion': …, 'answer': …}}.")
    text = row.get("completion")
    if not isinstance(text, str):
        raise DataError(f"{where}: has no text under 'completion'; every line needs what the model wrote.")
    count = row.get("token_count")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise DataError(f"{where}: token_count is {count!r}; it must be a whole number, or absent.")
    fields = {"id": f"line {number}", "task": "score", "question": "?"}
    fields |= {key: row[key] for key in _SAMPLE_KEYS if row.get(key) is not None}
    return parse_sample(fields, where=where, root=file.parent), Completion(text=text, token_count=count)


def _results(
    use: RewardUse, samples: Sequence[Sample], completions: Sequence[Completion], workers: int
) -> list[RewardResult]:
    from mmrl.rewards.runtime import RewardScorer
    from mmrl.types import Prompt, Rollout, RolloutGroup

    groups = [
        RolloutGroup(
            prompt=Prompt(sample=sample, text="", token_ids=(0,)),
            rollouts=(
                Rollout(
                    completion=completion,
                    token_ids=(0,),
                    behavior_logprobs=(0.0,),
                    policy_logprobs=(0.0,),
                    index=0,
                    seed=0,
                    policy_version=0,
                ),
            ),
        )
        for sample, completion in zip(samples, completions, strict=True)
    ]
    with RewardScorer({"default": (use,)}, workers=workers) as rewards:
        scored, _ = rewards.score(groups)
    return [group.results[0][use.name] for group in scored]
