"""`mmrl rewards`: can these rows be won, won by cheating, won by guessing?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mmrl.rewards.lint import Finding, LintReport
    from mmrl.rewards.runtime import RewardUse
    from mmrl.types import Sample

app = typer.Typer(no_args_is_help=True, help="Try rewards on your own rows.")

_LISTED = 10  # rows of each kind that are printed


@app.callback()
def _group() -> None:
    """Keeps `lint` a command of its own, however few commands there are."""


@app.command()
def lint(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Samples, as JSON lines.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A run's YAML file; its reward sets are tried.")
    ] = None,
    reward: Annotated[
        list[str] | None, typer.Option("--reward", "-r", help="Instead of --config: a reward's name. May be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Try the first N rows only.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes for rewards that need one.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as one JSON object.")] = False,
) -> None:
    """Answer every row rightly, not at all, wrongly, by tricks and blindly, and see what that earns.

    Says which rows cannot be won, which can be won by cheating, and how far guessing gets, before any GPU time. Without
    --config and --reward, each answer type is tried with its usual reward.

    \b
    Examples:
      mmrl rewards lint data/train.jsonl
      mmrl rewards lint data/train.jsonl --config configs/quickstart/digits.yaml --limit 500
      mmrl rewards lint data/train.jsonl --reward mra --reward format
    """
    from dataclasses import asdict

    from mmrl.data.manifest import read_manifest
    from mmrl.errors import DataError
    from mmrl.rewards.lint import lint as try_rows

    samples, sets = _sets(read_manifest(manifest)[:limit], config, reward or [])
    report = try_rows(samples, sets, workers=workers)
    if as_json:
        import json

        print(json.dumps(asdict(report), ensure_ascii=False))
    else:
        _print(report)
    if not report.sound:
        raise DataError(f"{manifest}: {_verdict(report)}. Mend or drop these rows, or choose another reward.")


def _sets(
    samples: Sequence[Sample], config: Path | None, names: Sequence[str]
) -> tuple[Sequence[Sample], Mapping[str, Sequence[RewardUse]]]:
    """The samples and the reward sets to try on them."""
    from dataclasses import replace

    from mmrl.errors import ConfigError
    from mmrl.rewards.build import reward_uses
    from mmrl.rewards.catalog import USUAL

    if config is not None and names:
        raise ConfigError("--config and --reward exclude each other; give one of them.")
    if config is not None:
        from mmrl.config.load import load_config

        entries = {
            task: [reward.model_dump(exclude_none=True) for reward in rewards]
            for task, rewards in load_config(config).rewards.items()
        }
        return samples, reward_uses(entries)
    if names:
        return samples, reward_uses({"default": [_entry(name) for name in names]})
    usual: dict[str, list[dict[str, Any]]] = {
        answer: [{"name": name}, {"name": "format"}] for answer, name in USUAL.items()
    }
    return [replace(sample, task=sample.answer.type) for sample in samples], reward_uses(usual)


def _entry(name: str) -> dict[str, Any]:
    return {"path": name} if ":" in name else {"name": name}


def _print(report: LintReport) -> None:
    if report.tasks:
        _print_table(report)
    _list("cannot be scored", report.refused)
    _list("cannot be won", report.unwinnable)
    _list("can be won by cheating", report.cheatable)
    if report.sound:
        print(f"{report.rows} rows: every one can be won, and none by cheating.")


def _print_table(report: LintReport) -> None:
    width = max([len(task) for task in report.tasks] + [4])
    print(f"{'task':{width}}  {'rows':>6}  {'right':>6}  {'blank':>6}  {'wrong':>6}  {'trick':>6}  {'guess':>6}")
    for task, found in report.tasks.items():
        trick = max(found.tricks.values(), default=0.0)
        cells = (found.gold, found.blank, found.wrong, trick, found.guessed)
        print(f"{task:{width}}  {found.rows:6d}  " + "  ".join(f"{cell:6.2f}" for cell in cells))
    print("(mean worth in [0, 1]; trick and guess: the one that gets furthest)")
    for task, found in report.tasks.items():
        print(f"{task}: the best guess is {found.guess!r}, {found.guessed:.2f}")


def _list(title: str, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    rows = {finding.sample_id for finding in findings}
    print(f"\n{len(rows)} rows {title}:")
    for finding in findings[:_LISTED]:
        print(
            f"  {finding.reason}" if finding.sample_id in finding.reason else f"  {finding.sample_id}: {finding.reason}"
        )
    if len(findings) > _LISTED:
        print(f"  … and {len(findings) - _LISTED} more findings (all of them: --json)")


def _verdict(report: LintReport) -> str:
    counts = {
        "cannot be scored": len({f.sample_id for f in report.refused}),
        "cannot be won": len({f.sample_id for f in report.unwinnable}),
        "can be won by cheating": len({f.sample_id for f in report.cheatable}),
    }
    return f"of {report.rows} rows, " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
