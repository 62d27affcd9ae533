"""What two ranks do in the tests of backends, and one process for comparison: the same code, other numbers of ranks.

Run as `python -m tests.backend.two_ranks FOLDER` by both ranks, it does every case once and leaves what came of it, as
rank 0 saw it, in FOLDER/<case>.pt; what failed is in FOLDER/<case>.<rank>.txt. Starting processes takes longer than the
cases, so all of them run in one start.
"""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.build import build_algorithm
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.deepspeed_backend import DeepSpeedBackend, ZeroSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.data.video_plan import ClipRules
from mmrl.policy.adapters import add_adapters
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.render import Renderer
from mmrl.ranks import Ranks, join, leave
from mmrl.training.sharing import place, without_pixels
from mmrl.training.streams import StepStreams
from mmrl.training.update import Updated, update
from mmrl.types import Media, Sample, ScoredGroup
from tests import toy

ROOT = Path(__file__).parents[2]
# Low enough: where a gradient is lost in rounding, Adam still steps by the rate, in a direction that rounding chose.
SETTINGS = OptimizerSettings(learning_rate=3e-4, steps=10)
RULES = ClipRules(fps=2.0, min_frames=4, max_frames=4, min_pixels=56 * 56, max_pixels=56 * 56)
MEDIA = ("image", "video", "mixed")
MAX_TOKENS = 16
TOTALS = ([1.2, 0.0, 0.2, 1.0], [0.0, 1.0, 1.1, 0.2], [1.2, 1.0, 0.0, 0.0], [0.2, 0.0, 1.0, 0.0], [0.0, 0.0, 1.2, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A backend to be held to one plain process."""

    kind: str = "deepspeed"  # or "torch"
    stage: int = 0
    budget: int = 100_000  # tokens of a micro-batch
    learning_rates: tuple[tuple[str, float], ...] = ()
    freeze: tuple[str, ...] = ()
    checkpoint_layers: bool = False
    offload: bool = False
    dtype: torch.dtype = torch.float32
    lora: str = ""  # "lora", "dora"
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    unread: bool = False  # weights spread from their files


def samples_of(media: str, folder: Path) -> list[Sample]:
    """Five: two that show something, three that do not."""
    pictures = [folder / f"noise-{i}.png" for i in range(4)]
    shown: dict[str, list[list[Media]]] = {
        "image": [[_picture(pictures[0])], [_picture(pictures[1]), _picture(pictures[2])]],
        "video": [[_clip(folder / "0.mp4")], [_clip(folder / "1.mp4")]],
        "mixed": [[_clip(folder / "0.mp4")], [_picture(pictures[3])]],
        "text": [[], []],
    }
    return [replace(toy.choice_sample(f"s{i}"), media=tuple([*shown[media], [], [], []][i])) for i in range(5)]


def groups_of(media: str, model: LoadedModel, folder: Path) -> list[ScoredGroup]:
    """Their scored groups, of four random rollouts each."""
    renderer = Renderer(model.processor, model.policy.family, model.policy.config, rules=RULES)
    prompts, dropped = renderer.render(samples_of(media, folder))
    renderer.close()
    assert not dropped, dropped
    groups = [toy.random_group(prompt, size=4, seed=i) for i, prompt in enumerate(prompts)]
    return [toy.scored(group, totals) for group, totals in zip(groups, TOTALS, strict=True)]


def backend_of(
    model: LoadedModel, variant: Variant, algorithm: Algorithm, ranks: Ranks
) -> TorchBackend | DeepSpeedBackend:
    """A backend of its own: the model is copied, or read anew."""
    if variant.unread:
        own = load_model(str(model.policy.config.name_or_path), dtype=variant.dtype, unread=True)
        assert own.unread is not None
    else:
        own = copy.deepcopy(model)
        own.policy.to(variant.dtype)
    if variant.lora:
        add_adapters(
            own.policy, rank=4, alpha=8.0, targets=(), parts=("language",), seed=0, magnitude=variant.lora == "dora"
        )
    settings = replace(
        SETTINGS,
        part_learning_rates=dict(variant.learning_rates),
        optimizer=variant.optimizer,  # type: ignore[arg-type]
        weight_decay=variant.weight_decay,
        max_grad_norm=variant.max_grad_norm,
    )
    options: dict[str, Any] = {
        "reference": algorithm.reference_rule,
        "freeze": variant.freeze,
        "micro_batch_tokens": variant.budget,
        "checkpoint_layers": variant.checkpoint_layers,
        "ranks": ranks,
    }
    if variant.kind == "torch":
        return TorchBackend(own, settings, **options)
    zero = ZeroSettings(
        stage=variant.stage,  # type: ignore[arg-type]
        offload_optimizer="cpu" if variant.offload else "none",
        offload_weights="cpu" if variant.offload and variant.stage == 3 else "none",
    )
    return DeepSpeedBackend(own, settings, zero, **options)


def step(
    backend: TorchBackend | DeepSpeedBackend,
    algorithm: Algorithm,
    groups: Sequence[ScoredGroup],
    ranks: Ranks,
    *,
    minibatches: int = 1,
) -> Updated:
    """One step of training, from scored groups that the first rank holds the pictures of: text is the others'."""
    backend.begin_step()
    holders = {g.group.prompt.sample.id: 0 if g.group.prompt.vision is not None else ranks.count - 1 for g in groups}
    held = [g if holders[g.group.prompt.sample.id] == ranks.rank else without_pixels(g) for g in groups]
    own = [holders[g.group.prompt.sample.id] == ranks.rank for g in groups]
    if minibatches > 1:
        held, own = place(ranks, held, holders, minibatches=minibatches)
    streams = StepStreams(
        backend, algorithm, minibatches=minibatches, decode=lambda ids: " ".join(map(str, ids)), ranks=ranks
    )
    laid_out = streams.assemble([g.group for g in held], own)
    credited = algorithm.credit(held, streams=laid_out, max_tokens=MAX_TOKENS)
    return update(backend, algorithm, credited, minibatches=minibatches, own=own)


def what_came_of_it(backend: TorchBackend | DeepSpeedBackend, updates: Sequence[Updated]) -> dict[str, Any]:
    """On rank 0: metrics of each step, the weights, and everything with state."""
    weights = {name: value.clone().cpu() for name, value in backend.weights()}
    state = copy.deepcopy(backend.state())
    return {"metrics": [u.metrics for u in updates], "weights": weights, "state": state}


def algorithm_of(name: str) -> Algorithm:
    """GRPO-CARE with a reference that moves at every update: otherwise two steps would not show it."""
    if name == "grpo_care":
        return build_algorithm({"base": "grpo_care", "reference": {"type": "ema", "every": 1, "decay": 0.5}})
    return ALGORITHMS[name]


def two_steps(
    folder: Path, ranks: Ranks, *, variant: Variant, algorithm: str, media: str, minibatches: int = 1
) -> dict[str, Any]:
    """Two steps on the same groups: the second has moved away from the reference."""
    model = load_model(str(folder / "model"))
    chosen = algorithm_of(algorithm)
    backend = backend_of(model, variant, chosen, ranks)
    groups = groups_of(media, model, folder)
    updates = [step(backend, chosen, groups, ranks, minibatches=minibatches) for _ in range(2)]
    return what_came_of_it(backend, updates)


def pictures_then_text(folder: Path, ranks: Ranks, *, variant: Variant) -> dict[str, Any]:
    """A step with pictures on one rank, two of nothing but text on all, and one with pictures again."""
    model = load_model(str(folder / "model"))
    chosen = algorithm_of("grpo_care")
    backend = backend_of(model, variant, chosen, ranks)
    media = ("mixed", "text", "text", "mixed")
    return what_came_of_it(backend, [step(backend, chosen, groups_of(m, model, folder), ranks) for m in media])


Case = Callable[[Path, Ranks], Any]


def run_ranks(folder: Path, cases: str, *, count: int = 2, seconds: float = 900) -> None:
    """Start the ranks and wait for them."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    processes = []
    for rank in range(count):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
        }
        log = (folder / f"rank-{rank}.log").open("w")
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.backend.two_ranks", str(folder), cases],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        )
    try:
        for rank, process in enumerate(processes):
            code = process.wait(timeout=seconds)
            assert code == 0, (folder / f"rank-{rank}.log").read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def result(folder: Path, case: str) -> Any:
    """What came of a case, or why it failed."""
    for failure in sorted(folder.glob(f"{case}.*.txt")):
        raise AssertionError(f"{failure.name}:\n{failure.read_text()}")
    return torch.load(folder / f"{case}.pt", weights_only=False)


def _picture(path: Path) -> Media:
    return Media(type="image", path=str(path))


def _clip(path: Path) -> Media:
    return Media(type="video", path=str(path))


def main(folder: Path, cases: dict[str, Case]) -> None:
    torch.set_num_threads(1)
    ranks = join("cpu")
    for name, case in cases.items():
        began = time.perf_counter()
        try:
            found = case(folder, ranks)
        except Exception:
            (folder / f"{name}.{ranks.rank}.txt").write_text(traceback.format_exc())
            found = None
        if any(ranks.gather(found is None)):
            continue  # a failure that only one rank has would leave the ranks out of step: then this line hangs
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
        if ranks.first:
            torch.save(found, folder / f"{name}.pt")
    leave()


if __name__ == "__main__":
    import importlib

    module = importlib.import_module(sys.argv[2])
    main(Path(sys.argv[1]), module.CASES)
