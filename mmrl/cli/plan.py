"""`mmrl plan`: what a run will take, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmrl.cli.options import ConfigFile, Overrides

if TYPE_CHECKING:
    from mmrl.forecast.predict import Forecast
    from mmrl.forecast.remedies import Remedy

GIB, MIB = 2**30, 2**20
SHOWN_REMEDIES = 6


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="NAME", help="Plan for this GPU (h100, a100, l4 …), not for this machine.")
    ] = "",
    gpu_memory: Annotated[
        float | None, typer.Option(metavar="GIB", help="Its memory: a MIG instance's, another edition's.", min=1)
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", help="How many train together.", min=1)] = 1,
    model_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="config.json of a model that is not here.", show_default=False),
    ] = None,
    text_tokens: Annotated[int, typer.Option(help="Of a prompt; 0: as the samples say.", min=0)] = 0,
    visual_tokens: Annotated[int, typer.Option(help="Of a prompt; -1: as the samples or limits say.", min=-1)] = -1,
    completion_tokens: Annotated[
        int, typer.Option(help="That completions will have; 0: as many as rollout.max_tokens allows.", min=0)
    ] = 0,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Time real steps here, of the model or of shallow copies; default: where a processor takes the whole "
            "model through them in seconds.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """Tell the memory and the time of a step, part by part, and which setting to change if it does not fit.

    Nothing is loaded: parameters are counted on a model without memory, which needs its config.json at most. Times are
    operations and bytes over the rates of a GPU's data sheet, or of this processor, on which both are timed; of a small
    model on a processor, real steps with random weights.

    \b
    Examples:
      mmrl plan configs/quickstart/digits.yaml
      mmrl plan configs/recipes/refcoco/qwen2_5_vl_7b_8gpu.yaml --gpu h100 --gpus 8 --visual-tokens 400
      mmrl plan my.yaml --gpu a100 backend.gradient_checkpointing=true
    """
    from mmrl.config.load import load_config
    from mmrl.forecast.predict import Asked, predict
    from mmrl.forecast.remedies import remedies

    settings = load_config(config, overrides or ())
    asked = Asked(
        model_config=model_config,
        gpu=gpu,
        gpu_memory_gib=gpu_memory,
        ranks=gpus,
        text_tokens=text_tokens,
        visual_tokens=visual_tokens,
        completion_tokens=completion_tokens,
        probe=probe,
    )
    forecast = predict(settings, asked)
    changes = [] if forecast.fits else remedies(settings, forecast, asked)
    if as_json:
        print(json.dumps(_plain(forecast, changes), indent=1))
    else:
        print(_text(forecast, changes))


def _text(forecast: Forecast, changes: list[Remedy]) -> str:
    from mmrl.cli.console import table_text

    sizes, step, device = forecast.sizes, forecast.step, forecast.device
    where = f"{forecast.setting.ranks} × {device.name}" if forecast.setting.ranks > 1 else device.name
    parameters = [(part, f"{count:,}", f"{sizes.trained[part]:,}") for part, count in sizes.parts.items() if count]
    parameters.append(("all", f"{sizes.parameters:,}", f"{sizes.learning:,}"))
    seconds = [
        (part, f"{value:.3g} s", f"{value / forecast.total_seconds:.0%}") for part, value in forecast.seconds.items()
    ]
    fit = "fits" if forecast.fits else "DOES NOT FIT"
    lines = [
        f"{sizes.family} on {where}",
        "",
        table_text(("parameters", "number", "learn"), parameters),
        "",
        f"A rank's step: {len(step.prompts)} prompts of {step.prompts[0].tokens} to {step.longest} tokens "
        f"({step.source}), {step.rollouts} completions of {step.completion} tokens, {len(step.updates)} update(s), "
        f"{len(step.passes)} micro-batch(es) of up to {max(one.positions for one in step.passes):,} positions.",
        *forecast.notes,
        "",
        table_text(("memory of a rank", "when", "MiB"), _rows(forecast)),
        "",
        f"Most at one time: {_size(forecast.peak)} of {_size(forecast.capacity)}: {fit}"
        + (f" (in the phase {forecast.memory.worst})." if not forecast.fits else "."),
    ]
    if forecast.host_peak and forecast.setting.cuda:
        lines.append(f"The processor's memory: {_size(forecast.host_peak)} for each rank.")
    if seconds:
        lines += ["", table_text(("time of a step", "seconds", "share"), seconds)]
        lines.append(f"Together {forecast.total_seconds:.3g} s a step: {forecast.basis}.")
    if changes:
        lines += [
            "",
            "What to change, the best first:",
            *(_advice(forecast, change) for change in changes[:SHOWN_REMEDIES]),
        ]
    return "\n".join(lines)


def _rows(forecast: Forecast) -> list[tuple[str, str, str]]:
    from mmrl.forecast.predict import held

    base = "CUDA's context, libraries" if forecast.setting.cuda else "process and libraries"
    rows = [(base, "always", f"{forecast.base / MIB:,.0f}")]
    for part in held(forecast):
        rows.append(
            (part.name + (" (processor's memory)" if part.host else ""), part.phase, f"{part.bytes / MIB:,.1f}")
        )
    return rows


def _advice(forecast: Forecast, change: Remedy) -> str:
    longer = f", {'+' if change.seconds >= 0 else '−'}{abs(change.seconds):.2g} s a step" if forecast.seconds else ""
    fits = "fits then" if change.fits else "not enough alone"
    mark = "; changes what is learnt" if change.learns_otherwise else ""
    return f"  {' '.join(change.settings)}: −{_size(change.saves)}{longer}; {fits}{mark}"


def _size(count: float) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _plain(forecast: Forecast, changes: list[Remedy]) -> dict[str, Any]:
    from dataclasses import asdict

    from mmrl.forecast.predict import held

    return {
        "family": forecast.sizes.family,
        "device": asdict(forecast.device),
        "ranks": forecast.setting.ranks,
        "parameters": dict(forecast.sizes.parts),
        "learning": dict(forecast.sizes.trained),
        "step": {
            "prompts": len(forecast.step.prompts),
            "longest_prompt_tokens": forecast.step.longest,
            "rollouts": forecast.step.rollouts,
            "completion_tokens": forecast.step.completion,
            "micro_batches": len(forecast.step.passes),
            "source": forecast.step.source,
        },
        "base_bytes": forecast.base,
        "memory": [asdict(part) for part in held(forecast)],
        "peak_bytes": forecast.peak,
        "host_peak_bytes": forecast.host_peak,
        "capacity_bytes": forecast.capacity,
        "fits": forecast.fits,
        "seconds": dict(forecast.seconds),
        "step_seconds": forecast.total_seconds if forecast.seconds else None,
        "basis": forecast.basis,
        "notes": list(forecast.notes),
        "remedies": [asdict(change) for change in changes],
    }
