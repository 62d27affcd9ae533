"""Completions per second of each engine at several group sizes and prompt lengths, and what new weights take.

    python tools/bench/rollout.py [--engines transformers vllm vllm_server] [--groups 4 16] [--tokens 64 1024]

A tiny Qwen2.5-VL with random weights writes completions of a fixed length to pictures of so many visual tokens;
engines in turns within each setting, the median of the rounds. Also: whether G seeded requests (what the vllm engines
do) or one request with n = G is faster, and whether both repeat themselves.

    python tools/bench/rollout.py --ahead 12

Only: what a training step of digits takes with vllm_server and rollout.ahead 0 and 1, over so many steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmrl.config.load import load_config
from mmrl.pipeline.stages import train_stage
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.tiny import save_tiny_model
from mmrl.progress import SilentProgress
from mmrl.rollout.engine import Closes, RolloutEngine, Sampling
from mmrl.rollout.vllm_sampler import VllmSampler, VllmSettings
from mmrl.training.metrics import read_metrics
from mmrl.types import Answer, Prompt, Sample, VisionInputs

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is

from tools.bench.scratch import scratch_folder

PROMPTS = 8
LENGTH = 64  # tokens of every completion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["transformers", "vllm", "vllm_server"])
    parser.add_argument("--groups", nargs="+", type=int, default=[4, 16])
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 1024], help="visual tokens per prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--ahead", type=int, default=0, metavar="STEPS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.ahead:
        _ahead(options.ahead, options.servers)
        return
    with scratch_folder() as folder:
        save_tiny_model(folder / "m", seed=0, hidden_size=options.hidden, layers=options.layers)
        model = load_model(str(folder / "m"), device=options.device)
    model.policy.model.generation_config.eos_token_id = []  # type: ignore[union-attr]
    settings = VllmSettings(max_model_len=4096, device=options.device, cache_gib=1.0, threads=1)
    engines: dict[str, RolloutEngine] = {}
    sampler: VllmSampler | None = None
    try:
        for name in options.engines:
            began = time.perf_counter()
            engines[name], made = _engine(name, model, settings, options.servers)
            sampler = sampler or made
            print(f"{name}: started in {time.perf_counter() - began:.1f} s")
        _speeds(engines, model, options)
        _syncs(engines, model, options.rounds)
        if sampler is not None:
            _one_request_or_many(sampler, model, options)
    finally:
        for engine in engines.values():
            if isinstance(engine, Closes):
                engine.close()


def _engine(
    name: str, model: LoadedModel, settings: VllmSettings, servers: int
) -> tuple[RolloutEngine, VllmSampler | None]:
    tokenizer = model.processor.tokenizer
    if name == "transformers":
        from mmrl.rollout.transformers_engine import TransformersEngine

        return TransformersEngine(model.policy, tokenizer, run_seed=0, device=settings.device), None
    if name == "vllm":
        from mmrl.rollout.vllm_engine import VllmEngine, start_sampler

        sampler = start_sampler(model.policy, model.processor, settings)
        return VllmEngine(model.policy, tokenizer, run_seed=0, sampler=sampler), sampler
    from mmrl.rollout.server_client import started_here
    from mmrl.rollout.vllm_server_engine import ServerSettings, VllmServerEngine

    engine = VllmServerEngine(
        model.policy,
        model.processor,
        started_here(servers),
        run_seed=0,
        vllm=settings,
        settings=ServerSettings(),
    )
    return engine, None


def _speeds(engines: dict[str, RolloutEngine], model: LoadedModel, options: argparse.Namespace) -> None:
    print(f"\ncompletions of {LENGTH} tokens per second, {PROMPTS} prompts together")
    print(f"{'visual tokens':>14} {'G':>4} " + " ".join(f"{name:>14}" for name in engines))
    for engine in engines.values():
        engine.load_weights(model.policy.model.named_parameters(), version=0)
        engine.generate(_prompts(model, 64, "warm"), _sampling(2), step=0)
    for tokens in options.tokens:
        for group in options.groups:
            took: dict[str, list[float]] = {name: [] for name in engines}
            for round_ in range(options.rounds):
                shown = _prompts(model, tokens, f"{tokens}-{group}-{round_}")  # never seen: nothing is cached
                for name, engine in engines.items():
                    took[name].append(_seconds(partial(engine.generate, shown, _sampling(group), step=0)))
            rates = [PROMPTS * group / statistics.median(times) for times in took.values()]
            print(f"{tokens:>14} {group:>4} " + " ".join(f"{rate:>14.1f}" for rate in rates))


def _syncs(engines: dict[str, RolloutEngine], model: LoadedModel, rounds: int) -> None:
    count = sum(p.numel() for p in model.policy.parameters())
    print(f"\nseconds of a weight synchronisation ({count / 1e6:.1f} M parameters, float32)")
    for name, engine in engines.items():
        times = [
            _seconds(partial(engine.load_weights, model.policy.model.named_parameters(), version=n))
            for n in range(1, rounds + 1)
        ]
        print(f"{name:>14} {statistics.median(times):.3f}")


def _one_request_or_many(sampler: VllmSampler, model: LoadedModel, options: argparse.Namespace) -> None:
    from mmrl.rollout.asked import Asker

    print("\none request with n = G, or G seeded requests: seconds, and whether the same call repeats itself")
    asker = Asker(model.policy.family, model.policy.config, run_seed=0)
    for tokens in options.tokens:
        for group in options.groups:
            rows: dict[str, list[float]] = {"n = G": [], "seeded": []}
            same = {"n = G": True, "seeded": True}
            for round_ in range(options.rounds):
                for name, sample in (("n = G", _as_one), ("seeded", _as_many)):
                    # Different pictures for the two, so that neither finds the other's keys.
                    shown = _prompts(model, tokens, f"{name}-{tokens}-{group}-{round_}")
                    asked = asker.ask(shown, [group] * len(shown), _sampling(group), step=0)
                    began = time.perf_counter()
                    first = sample(sampler, asked, _sampling(group))
                    rows[name].append(time.perf_counter() - began)
                    same[name] &= first == sample(sampler, asked, _sampling(group))
            told = ", ".join(
                f"{name} {statistics.median(times):.3f} s ({'repeats' if same[name] else 'DIFFERS'})"
                for name, times in rows.items()
            )
            print(f"{tokens:>14} {group:>4}  {told}")


def _ahead(steps: int, servers: int) -> None:
    """Two runs from the same random weights. The first two steps are left out: nothing is ahead of them yet."""
    config = Path(__file__).parents[2] / "configs" / "quickstart" / "digits.yaml"
    settings = (
        *("sft=null", "algorithm.filters=[]", f"train.steps={steps}", f"train.checkpoint_every={steps}"),
        *("rollout.engine=vllm_server", f"rollout.servers.start={servers}", "rollout.vllm.cache_gib=0.25"),
        *("rollout.vllm.max_model_len=512", "rollout.max_tokens=64", "rollout.max_refills=0", "tracking.to=[]"),
    )
    print(f"\nseconds of a step, {servers} servers, median of {steps - 2} (rollouts, update, waited)")
    for ahead in (0, 1):
        with scratch_folder() as folder:
            own = (*settings, f"run.folder={folder}", f"rollout.ahead={ahead}")
            train_stage(load_config(config, own), resume=False, overwrite=False, progress=SilentProgress())
            [log] = folder.glob("*/metrics.jsonl")
            rows = read_metrics(log)[2:]
        parts = {
            name: statistics.median(row[f"time/{name}_seconds"] for row in rows)
            for name in ("step", "rollout", "update", "waited")
        }
        stale = max(row["rollout/staleness_max"] for row in rows)
        print(
            f"  ahead {ahead}: {parts['step']:.2f} ({parts['rollout']:.2f}, {parts['update']:.2f}, "
            f"{parts['waited']:.2f}); staleness {stale:.0f}"
        )


def _as_many(sampler: VllmSampler, asked: Any, sampling: Sampling) -> list[list[tuple[int, ...]]]:
    return [[w.token_ids for w in group] for group in sampler.sample(asked, sampling)]


def _as_one(sampler: VllmSampler, asked: Any, sampling: Sampling) -> list[list[tuple[int, ...]]]:
    """As `VllmSampler.sample`, but with vLLM's parallel sampling: seed, seed + 1, …"""
    from mmrl.rollout.vllm_inputs import engine_input

    engine = sampler._engine
    names = []
    for ask in asked:
        name = sampler._submit(
            engine_input(ask, sampler._family, sampler._processor), ask.seeds[0], sampling, n=len(ask.seeds)
        )
        names.append(name)
    done: dict[str, Any] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                done[output.request_id] = output.outputs
    return [[tuple(o.token_ids) for o in sorted(done[name], key=lambda o: o.index)] for name in names]


def _sampling(group: int) -> Sampling:
    return Sampling(group_size=group, max_tokens=LENGTH)


def _prompts(model: LoadedModel, tokens: int, name: str) -> list[Prompt]:
    """Questions about one picture of noise each."""
    config = model.policy.config
    merge = model.policy.family.merge_size(config)
    height = next(h for h in range(int(tokens**0.5), 0, -1) if tokens % h == 0)
    grid = (1, height * merge, tokens // height * merge)
    values = 3 * config.vision_config.temporal_patch_size * config.vision_config.patch_size**2
    prompts = []
    for n in range(PROMPTS):
        seed = zlib.crc32(f"{name}-{n}".encode())
        random = torch.Generator().manual_seed(seed)
        ids = [config.vision_start_token_id, *[config.image_token_id] * tokens, config.vision_end_token_id]
        ids += torch.randint(40, 300, (24,), generator=random).tolist()
        prompts.append(
            Prompt(
                sample=Sample(id=f"{name}-{n}", task="t", question="", answer=Answer(type="choice", value="A")),
                text="",
                token_ids=tuple(ids),
                media_slots=((1, 1 + tokens),),
                vision=VisionInputs(
                    patches=torch.randn(grid[1] * grid[2], values, generator=random),
                    grids=(grid,),
                    kinds=("image",),
                    seconds_per_grid=(0.0,),
                    digests=(f"{name}-{n}",),
                ),
            )
        )
    return prompts


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
