"""What sharing the policy over ranks costs: one update of the same global batch on 1 and 2 ranks, at every ZeRO stage.

    python tools/bench/scale.py                          CPU, gloo, a policy of 12 million parameters; minutes
    python tools/bench/scale.py --ranks 1 8 --model DIR  GPUs where there are any, one rank on each, nccl
    python tools/bench/scale.py --stages 2 3 --json scale.json

Per row: seconds of a step (reference pass, forward, backward, update; median after a warm-up), the share of it inside
collective operations (profiled in one more step: what travels, and waiting for the slower rank), and per rank the bytes
of tensors that stay between steps (weights, gradients, optimiser, reference) and the most memory the process ever had.
`torch` is the backend without DeepSpeed. On CPU ranks share the cores: their times say what spreading costs, no gain.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is

from tools.bench.machine import machine
from tools.bench.scratch import scratch_folder

GROUPS, GROUP_SIZE, COMPLETION, PICTURE = 8, 4, 48, (168, 168)
SHAPE = {
    "hidden_size": 256,
    "layers": 8,
    "heads": 4,
    "key_value_heads": 2,
    "vision_depth": 4,
    "vision_hidden_size": 256,
}


def main() -> None:
    options = _options()
    if options.worker:
        _work(options)
        return
    with scratch_folder() as folder:
        model = options.model or _tiny_model(folder)
        rows = []
        print(
            f"{'ranks':>5} {'backend':>10} {'step s':>8} {'collectives':>12} {'held MiB':>9} {'peak MiB':>9}",
            flush=True,
        )
        for ranks in options.ranks:
            for stage in (-1, *options.stages):
                row = {"ranks": ranks, "stage": stage, **_measured(ranks, stage, model, folder, options)}
                rows.append(row)
                name = "torch" if stage < 0 else f"ZeRO-{stage}"
                print(
                    f"{ranks:>5} {name:>10} {row['seconds']:>8.3f} {row['collectives']:>11.0%} "
                    f"{row['held_mib']:>9.0f} {row['peak_mib']:>9.0f}",
                    flush=True,
                )
    if options.json:
        said = {"machine": machine(), "options": {**vars(options), "json": str(options.json)}, "rows": rows}
        options.json.write_text(json.dumps(said, indent=1))


def _measured(ranks: int, stage: int, model: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Start the ranks, wait, and put together what they measured: the slowest's time, the fullest's memory."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    processes = []
    for rank in range(ranks):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [
            sys.executable,
            "-m",
            "tools.bench.scale",
            "--worker",
            str(folder / f"{rank}.json"),
            "--model",
            model,
        ]
        command += ["--stages", str(stage), "--steps", str(options.steps)]
        environment = {**os.environ, **{name: str(value) for name, value in names.items()}, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
        )
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"{ranks} ranks at stage {stage}: a rank ended with {codes}")
    told = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]
    return {name: max(one[name] for one in told) for name in told[0]}


def _work(options: argparse.Namespace) -> None:
    """One rank."""
    import torch

    from mmrl.algorithms.grpo import GRPO
    from mmrl.backend.backend import OptimizerSettings
    from mmrl.backend.deepspeed_backend import DeepSpeedBackend, ZeroSettings
    from mmrl.backend.torch_backend import TorchBackend
    from mmrl.memory import peak_memory_mib
    from mmrl.policy.load import load_model
    from mmrl.ranks import join, leave
    from mmrl.training.streams import StepStreams
    from mmrl.training.update import update

    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ranks = join(device)
    model = load_model(options.model, dtype=torch.bfloat16 if device == "cuda" else torch.float32, device=device)
    scored = _scored_groups(model, Path(options.worker).parent / f"pictures-{ranks.rank}")
    own = [i % ranks.count == ranks.rank for i in range(len(scored))]
    settings = OptimizerSettings(learning_rate=1e-5, steps=100)
    stage = options.stages[0]
    given: dict[str, Any] = {"reference": GRPO.reference_rule, "device": device, "ranks": ranks}
    backend: Any
    if stage < 0:
        backend = TorchBackend(model, settings, **given)
    else:
        # Its buffers are as large as buckets: of the default size they would be all that one sees of so small a model.
        bucket = ZeroSettings().bucket_numbers if device == "cuda" else 1_000_000
        backend = DeepSpeedBackend(model, settings, ZeroSettings(stage=stage, bucket_numbers=bucket), **given)

    def step() -> float:
        began = time.perf_counter()
        backend.begin_step()
        streams = StepStreams(backend, GRPO, minibatches=1, decode=str, ranks=ranks)
        credited = GRPO.credit(scored, streams=streams.assemble([g.group for g in scored], own), max_tokens=COMPLETION)
        update(backend, GRPO, credited, minibatches=1, own=own)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    step()
    seconds = [step() for _ in range(options.steps)]
    with torch.profiler.profile() as profile:
        profiled = step()
    found = {
        "seconds": statistics.median(seconds),
        "collectives": _inside_collectives(profile) / profiled if ranks.several else 0.0,
        "held_mib": _held_bytes() / 2**20,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_memory_mib(),
    }
    Path(options.worker).write_text(json.dumps(found))
    leave()


def _inside_collectives(profile: Any) -> float:
    """Seconds in which at least one collective was under way."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.name.startswith(("gloo:", "nccl:"))
    )
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


def _held_bytes() -> int:
    """Of all tensors that are alive between two steps."""
    import torch

    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _scored_groups(model: Any, folder: Path) -> list[Any]:
    """The global batch: noise pictures, random completions, alike on every rank."""
    import numpy as np
    from PIL import Image

    from mmrl.policy.render import Renderer
    from mmrl.types import Answer, Completion, Media, RewardResult, Rollout, RolloutGroup, Sample, ScoredGroup

    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    samples = []
    for i in range(GROUPS):
        path = folder / f"{i}.png"
        Image.fromarray(random.integers(0, 256, (*PICTURE, 3), dtype=np.uint8)).save(path)
        media = (Media(type="image", path=str(path)),)
        samples.append(Sample(id=str(i), task="", question="What?", answer=Answer(type="text", value=""), media=media))
    renderer = Renderer(model.processor, model.policy.family, model.policy.config)
    prompts, _ = renderer.render(samples)
    renderer.close()
    scored = []
    for prompt in prompts:
        rollouts = []
        for index in range(GROUP_SIZE):
            ids = tuple(int(t) for t in random.integers(10, 300, COMPLETION))
            zeros = (0.0,) * COMPLETION
            rollouts.append(
                Rollout(
                    completion=Completion(text="", token_count=COMPLETION),
                    token_ids=ids,
                    behavior_logprobs=zeros,
                    policy_logprobs=zeros,
                    index=index,
                    seed=index,
                    policy_version=0,
                )
            )
        totals = tuple(float(index % 2) for index in range(GROUP_SIZE))
        scored.append(
            ScoredGroup(
                group=RolloutGroup(prompt=prompt, rollouts=tuple(rollouts)),
                results=tuple({"choice": RewardResult(value=total, weight=1.0)} for total in totals),
                totals=totals,
                accuracy=totals,
                format=(1.0,) * GROUP_SIZE,
            )
        )
    return scored


def _tiny_model(folder: Path) -> str:
    from mmrl.policy.tiny import save_tiny_model

    save_tiny_model(folder / "model", **SHAPE)  # type: ignore[arg-type]
    return str(folder / "model")


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3], help="on GPUs (bfloat16) leave out 0")
    parser.add_argument("--steps", type=int, default=5, help="measured, after one that warms up")
    parser.add_argument("--model", default="", help="a folder in Hugging Face layout; default: a tiny Qwen2.5-VL")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
