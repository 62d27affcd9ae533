"""`mmrl export`: a run's model on its own, with a page that says what it is: the hub's model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmrl.atomic import write_atomically
from mmrl.config.load import load_config
from mmrl.config.schema import Config
from mmrl.errors import ConfigError, RunError
from mmrl.pipeline.models import copy_model

CARD = "README.md"
_SHOWN = ("reward/", "eval/", "policy/kl_mean", "rollout/length_mean", "loss/total")  # of the last step's metrics


def export_run(run: Path, out: Path, *, step: int | None = None, best: bool = False) -> Path:
    """A checkpoint's model files, adapters merged, without the trainer's state, and a model card.

    The newest checkpoint; or that of `step`; or, with `best`, the one that the run's train.keep_best names. RunError
    where it is not there, or no longer what was written.
    """
    from mmrl.training.checkpoint import checkpoints
    from mmrl.training.saver import Keep, best_of
    from mmrl.training.seal import damage

    if not run.is_dir():
        raise RunError(f"{run}: there is no run folder.")
    found = {c.step: c for c in checkpoints(run)}
    if not found:
        raise RunError(f"{run}: the run has no checkpoint yet.")
    if step is not None and step not in found:
        raise RunError(f"{run}: no checkpoint of step {step}. There are: {', '.join(map(str, found))}.")
    config = load_config(run / "config.yaml") if (run / "config.yaml").is_file() else None
    chosen = found[step if step is not None else max(found)]
    if best:
        rule = config.train.keep_best if config is not None else None
        if rule is None:
            raise RunError(
                f"{run}: its config names no train.keep_best, so no checkpoint is the best. Choose by --step."
            )
        wanted = best_of([*found.values()], Keep(last=1, best=rule.metric, best_is=rule.best))
        if wanted is None:
            raise RunError(f"{run}: no checkpoint was made at a step that logged {rule.metric}. Choose one by --step.")
        chosen = found[wanted]
    wrong = damage(chosen.folder)
    if wrong is not None:
        raise RunError(f"{chosen.folder} is damaged: {wrong}. Choose another with --step.")
    if out.exists():
        raise RunError(f"{out} exists. A model is never overwritten: choose another folder, or remove it first.")
    seal = chosen.seal
    assert seal is not None
    text = model_card(run, config, step=chosen.step, metrics=seal.metrics, versions=seal.versions)
    made = copy_model(chosen.folder, out)
    write_atomically(made / CARD, text.encode())
    return made


def model_card(
    run: Path,
    config: Config | None,
    *,
    step: int,
    metrics: Mapping[str, float],
    versions: Mapping[str, str],
) -> str:
    """The page, in Markdown with the hub's header. What the run does not say is left out, not guessed."""
    report: dict[str, Any] = {}
    if (run / "report.json").is_file():
        report = json.loads((run / "report.json").read_text())
    lines = [_header(config), f"# {config.run.name if config is not None else run.name}", ""]
    lines += [f"A vision-language model trained by reinforcement learning with verifiable rewards; step {step}.", ""]
    if config is not None:
        lines += ["## Data", "", *_data(config, run), "", "## Recipe", "", *_recipe(config, step), ""]
    lines += ["## Metrics", "", *_metrics(report, metrics, step, config), "", "## Versions", ""]
    known = {**versions, **report.get("facts", {}).get("versions", {})}
    lines += [f"- {name} {version}" for name, version in sorted(known.items())]
    asked = 'mmrl generate . --image picture.png --question "What is shown?"'
    lines += ["", "## Use", "", "```sh", asked, "vllm serve .", "```"]
    if config is not None:
        lines += ["", "## Config", "", "```yaml", (run / "config.yaml").read_text().rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _header(config: Config | None) -> str:
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["mmrl", "reinforcement-learning", "vision-language"],
    }
    if config is not None:
        fields["tags"] = [*fields["tags"], _algorithm(config)]
        path = config.model.path
        if path is not None and path.count("/") == 1 and not path.startswith((".", "/", "~")):
            fields["base_model"] = path
    return f"---\n{yaml.safe_dump(fields, sort_keys=False).rstrip()}\n---\n"


def _data(config: Config, run: Path) -> list[str]:
    lines = []
    if config.data.recipe is not None:
        from mmrl.data.recipe_file import load_recipe

        try:
            recipe = load_recipe(config.data.recipe)[0]
        except ConfigError:  # moved since
            lines.append(f"- recipe: {config.data.recipe}")
        else:
            licence = str(recipe.options.get("licence", ""))
            for name, text in (
                ("data", f"{recipe.name}: {recipe.description}"),
                ("source", recipe.source),
                ("licence", licence),
            ):
                if text:
                    lines.append(f"- {name}: {text}")
    for split in ("train", "validation", "test"):
        path = getattr(config.data, split) or run / "data" / f"{split}.jsonl"
        if Path(path).is_file():
            with open(path, "rb") as file:
                lines.append(f"- {split}: {sum(1 for line in file if line.strip()):,} samples")
    return lines or ["- not recorded"]


def _recipe(config: Config, step: int) -> list[str]:
    rollout, train = config.rollout, config.train
    rewards = "; ".join(
        f"{task}: " + ", ".join(f"{use.weight:g} × {use.name or use.path}" for use in uses)
        for task, uses in config.rewards.items()
    )
    start = config.model.path or f"a tiny {config.model.tiny.family if config.model.tiny else ''} with random weights"
    lines = [
        f"- started from: {start}" + (f", {config.sft.steps} steps of supervised cold start" if config.sft else ""),
        f"- algorithm: {_algorithm(config)}",
        f"- prompt: {config.prompt.mode}",
        f"- rewards: {rewards}",
        f"- rollouts: {rollout.prompts_per_step} prompts × {rollout.group_size} a step, at most {rollout.max_tokens} "
        f"tokens, temperature {rollout.temperature:g}, top-p {rollout.top_p:g}",
        f"- training: {step} of {train.steps} steps, {train.minibatches} updates each, learning rate "
        f"{train.learning_rate:g} ({train.schedule}), seed {config.run.seed}",
    ]
    if train.lora is not None:
        lines.append(f"- adapters: rank {train.lora.rank}, alpha {train.lora.alpha:g}; merged into these weights")
    return lines


def _algorithm(config: Config) -> str:
    chosen = config.algorithm
    return chosen if isinstance(chosen, str) else str(chosen.get("base", chosen.get("name", "custom")))


def _metrics(report: Mapping[str, Any], metrics: Mapping[str, float], step: int, config: Config | None) -> list[str]:
    lines = []
    finished = config is not None and step == config.train.steps  # the report is about the last checkpoint
    rows = [
        (task, entry["before"], entry["after"])
        for task, entry in {**report.get("tasks", {}), "all": report.get("overall") or {}}.items()
        if finished and entry.get("before") and entry.get("after")
    ]
    if rows:
        lines += [
            "Greedy accuracy on held-out samples:",
            "",
            "| task | samples | before | after |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {task} | {after['samples']} | {before['accuracy']['value']:.1%} | {after['accuracy']['value']:.1%} |"
            for task, before, after in rows
        ]
        lines.append("")
    shown = {name: value for name, value in sorted(metrics.items()) if name.startswith(_SHOWN)}
    if shown:
        lines += [f"Of training step {step - 1}:", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name} | {value:.4g} |" for name, value in shown.items()]
    return lines or ["None were logged."]
