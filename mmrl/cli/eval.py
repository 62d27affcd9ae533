"""`mmrl eval`: how good is a model, or two of them side by side? Or predictions that are stored already?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmrl.cli.models import MODEL_HELP
from mmrl.cli.options import Quiet

if TYPE_CHECKING:
    from mmrl.config.schema import Config
    from mmrl.evaluation.printed import Told


class Engine(StrEnum):
    """What samples."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"
    VLLM_SERVER = "vllm_server"


class Decoding(StrEnum):
    """What accuracy is of."""

    GREEDY = "greedy"
    SAMPLED = "sampled"


def evaluate(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=f"{MODEL_HELP} Not with --predictions.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Config keys to override.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="MANIFEST", exists=True, dir_okay=False, help="Samples to ask.", show_default=False
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="MODEL", help="Compare with this model (or file of predictions).", show_default=False
        ),
    ] = None,
    forgetting: Annotated[
        list[Path] | None,
        typer.Option(
            "--forgetting",
            metavar="MANIFEST",
            exists=True,
            dir_okay=False,
            help="Tasks that were not trained, asked too; may be repeated.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="Prompts and rewards; default: of the model's run, or plain."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first samples of each manifest.", show_default=False)
    ] = None,
    engine: Annotated[Engine | None, typer.Option(help="What samples; default: as in the config.")] = None,
    decoding: Annotated[
        Decoding | None,
        typer.Option(help="What accuracy is of: one greedy completion, or all sampled ones."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Sampled completions per sample, for pass@k.", show_default=False),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Draw them so many times anew.", show_default=False),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampled completions.", show_default=False)] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Of sampled completions.", show_default=False)] = None,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=0, help="Of sampled completions; 0: off.", show_default=False),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest completion, in tokens.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the sampled completions.", show_default=False)] = None,
    ks: Annotated[
        list[int] | None,
        typer.Option("--k", min=1, help="Which pass@k and majority@k; may be repeated."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="KEY", help="Also tell figures apart by this key of metadata; may be repeated."),
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(
            "--likelihood",
            metavar="MODEL",
            help="Also GRPO-CARE's likelihood of the answers, under this model; `own`: each model's own.",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="JSON lines with `prediction`, scored as they are.",
        ),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option("--rules", metavar="NAME", help="Score them as this benchmark's own code (mmrl list rules)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.json", dir_okay=False, help="Everything found, sample by sample."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE.md", dir_okay=False, help="The tables."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            metavar="RUN",
            file_okay=False,
            help="A run folder, or a new one, that `mmrl app inspect` then shows it in.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Of the evaluation in there; default: the model's."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            metavar="FOLDER",
            file_okay=False,
            help="Where completions are kept, so that none is generated twice.",
            show_default="~/.cache/mmrl/completions",
        ),
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep none, and take none from there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model, or two side by side, or predictions that are stored already.

    Accuracy per task of one greedy completion per sample, pass@k and majority@k of sampled ones, MRA, IoU, consistency,
    form and length, with 95 % intervals. With --against both models are asked the same with the same randomness, and
    their difference is paired sample by sample. What is generated is kept: a command that was killed goes on where it
    was. See docs/evaluation.md.

    \b
    Examples:
      mmrl eval runs/digits --data runs/digits/data/test.jsonl
      mmrl eval runs/digits --against runs/digits/cold_start --data runs/digits/data/test.jsonl --markdown both.md
      mmrl eval Qwen/Qwen2.5-VL-3B-Instruct --data test.jsonl --engine vllm --samples 8 --k 1 --k 8
      mmrl eval runs/digits --data trained.jsonl --against runs/digits/cold_start --forgetting other.jsonl
      mmrl eval --predictions answers.jsonl --rules vsi_bench
    """
    from mmrl.cli.console import progress
    from mmrl.cli.eval_stored import scored
    from mmrl.config.load import load_config
    from mmrl.evaluation.printed import as_markdown, as_text

    if model is not None and "=" in model and not Path(model).exists():
        overrides = [model, *(overrides or [])]
        model = None
    _check_paths(out, markdown)
    told_to = progress(quiet=quiet)
    loaded = load_config(config) if config is not None else None
    given = _given(overrides or [])
    options = {
        **given,
        **_config_changes(
            limit=limit,
            engine=engine,
            decoding=decoding,
            samples=samples,
            seeds=seeds,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_tokens=max_tokens,
            seed=seed,
            ks=ks,
            by=by,
        ),
    }
    used = None
    if predictions is not None:
        told = scored(
            predictions,
            against,
            rules=rules,
            data=data,
            config=loaded,
            overrides=given,
            limit=limit,
            seed=seed,
            ks=ks or [],
            by=by or [],
            nothing={
                "MODEL": model,
                "--forgetting": forgetting,
                "--engine": engine,
                "--decoding": decoding,
                "--samples": samples,
                "--seeds": seeds,
                "--temperature": temperature,
                "--top-p": top_p,
                "--top-k": top_k,
                "--max-tokens": max_tokens,
                "--likelihood": likelihood,
                "--into": into,
                "--name": name,
                "--store": store,
                "--no-store": no_store or None,
            },
            progress=told_to,
        )
    else:
        if model is None or data is None:
            what = "MODEL and --data" if model is None and data is None else "MODEL" if model is None else "--data"
            raise typer.BadParameter(f"give {what}, or --predictions", param_hint="mmrl eval")
        if rules is not None:
            raise typer.BadParameter("goes with --predictions only", param_hint="--rules")
        told, used = _asked(
            [name for name in (model, against) if name is not None],
            data,
            forgetting or [],
            loaded,
            options,
            None if no_store else store or _usual_store(),
            likelihood,
            into is not None,
            told_to,
        )
    if against is not None:
        print(f"before: {against}\nafter:  {predictions or model}\n")
    print(as_text(told))
    if out is not None:
        _write(out, json.dumps(_found(told), indent=1, ensure_ascii=False))
    if markdown is not None:
        _write(markdown, as_markdown(told))
    if into is not None and used is not None:
        from mmrl.cli.eval_into import save

        save(into, name, told, used, against=against, tell=told_to.note)


def _asked(
    given: Sequence[str],
    data: Path,
    forgetting: Sequence[Path],
    config: Config | None,
    options: dict[str, Any],
    store: Path | None,
    likelihood: str | None,
    traced: bool,
    progress: Any,
) -> tuple[Told, Any]:
    from mmrl.cli.interrupted import continued
    from mmrl.cli.models import model_path
    from mmrl.evaluation.printed import Told
    from mmrl.pipeline import evaluate_on
    from mmrl.pipeline.evaluating import OWN, Kept, changed_config, config_to_ask

    models = [model_path(name) for name in given]
    others = _names(forgetting)
    reference = likelihood if likelihood is None or likelihood == OWN else model_path(likelihood)
    keep = Kept(store=store, reference=reference, traces=[] if traced else None)
    used = changed_config(config, options) if config is not None else config_to_ask(models[0], options, progress)
    manifests = {"data": str(data), **others}
    with continued(store) if store is not None else nullcontext():
        found = evaluate_on(models, manifests, config=used, options={}, progress=progress, keep=keep)
    after, before = found[0], found[1] if len(found) > 1 else None
    told = Told(
        after=after["data"],
        before=before["data"] if before is not None else None,
        untrained={name: (before[name] if before is not None else None, after[name]) for name in others},
    )
    return told, (used, keep.traces or [])


def _names(manifests: Sequence[Path]) -> dict[str, str]:
    """What each is called: its file's name, with its folder's where two are alike or it is only a split's."""
    found: dict[str, str] = {}
    for path in manifests:
        own = path.resolve()
        name = own.stem
        if name in (*found, "data", "train", "validation", "test"):
            name = f"{own.parent.name}_{name}"
        if name in found:
            raise typer.BadParameter(f"two manifests are called {name}; rename one", param_hint="--forgetting")
        found[name] = str(path)
    return found


def _found(told: Told) -> dict[str, Any]:
    """The body of --out: one result, or before, after and how they compare; and tasks that were not trained."""
    body = told.after.to_json()
    if told.before is not None and told.comparison is not None:
        body = {"before": told.before.to_json(), "after": body, "comparison": told.comparison.to_json()}
    if told.untrained:
        forgotten = told.forgotten()
        body["untrained"] = {
            name: {
                "before": before.to_json() if before is not None else None,
                "after": after.to_json(),
                "comparison": forgotten[name].to_json() if name in forgotten else None,
            }
            for name, (before, after) in told.untrained.items()
        }
    return body


def _config_changes(
    *,
    limit: int | None,
    engine: str | None,
    decoding: str | None,
    samples: int | None,
    seeds: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    max_tokens: int | None,
    seed: int | None,
    ks: Sequence[int] | None,
    by: Sequence[str] | None,
) -> dict[str, Any]:
    """The options that were given, as keys of the config."""
    several = None if samples is None else sorted({1, samples * (seeds or 1)})
    changes = {
        "evaluation.limit": limit,
        "rollout.engine": None if engine is None else str(engine),
        "evaluation.decoding": None if decoding is None else str(decoding),
        "evaluation.samples_per_prompt": samples,
        "evaluation.seeds": seeds,
        "evaluation.ks": sorted(set(ks)) if ks else several,
        "evaluation.temperature": temperature,
        "evaluation.top_p": top_p,
        "evaluation.top_k": top_k,
        "evaluation.slice_by": ["question_type", "level", *by] if by else None,
        "rollout.max_tokens": max_tokens,
        "run.seed": seed,
    }
    return {key: value for key, value in changes.items() if value is not None}


def _given(overrides: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs; values are read as YAML."""
    import yaml

    found = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"{item!r} is no KEY=VALUE", param_hint="[KEY=VALUE]...")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise typer.BadParameter(f"{value!r} is no YAML value", param_hint=key) from None
    return found


def _usual_store() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmrl" / "completions"


def _check_paths(*files: Path | None) -> None:
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise typer.BadParameter(f"there is no folder {file.parent}", param_hint=f"{file.name}")


def _write(out: Path, text: str) -> None:
    from mmrl.atomic import write_atomically

    write_atomically(out, text.encode())
