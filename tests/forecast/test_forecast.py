"""What is predicted from a config is what the real thing holds, to the byte, where shapes decide."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl import build
from mmrl.algorithms.build import build_algorithm
from mmrl.algorithms.reference import AdapterOff, FrozenReference
from mmrl.cli.main import main
from mmrl.config.load import changed
from mmrl.config.schema import Config
from mmrl.errors import ConfigError, ModelError
from mmrl.forecast.device import CALLED, GPUS, Device, gpu, gpu_here, known_as
from mmrl.forecast.memory import Held, Setting, memory_of
from mmrl.forecast.predict import Asked, left_out, predict
from mmrl.forecast.probe import PARTS, Depth, depths, extrapolated
from mmrl.forecast.rehearsal import Rehearsed
from mmrl.forecast.remedies import remedies
from mmrl.forecast.sizes import Sizes, sizes_of
from mmrl.forecast.step import Shown, step_of
from mmrl.forecast.work import work_of
from mmrl.policy.published import PUBLISHED
from mmrl.policy.skeleton import architecture, skeleton
from mmrl.policy.tiny import save_tiny_model
from tests import toy
from tests.forecast.planned import config_of, pictures_of
from tests.policy.prompts import Image, prompt_of

ROOT = Path(__file__).parents[2]
# Parameters that the hub states for these repositories' weights.
STATED = {
    "Qwen/Qwen2-VL-2B-Instruct": 2_208_985_600,
    "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
}


def sizes_for(config: Config) -> Sizes:
    tiny = None if config.model.tiny is None else config.model.tiny.model_dump()
    dtype = torch.bfloat16 if config.backend.dtype == "bfloat16" else torch.float32
    return sizes_of(config, skeleton(architecture(config.model.path, tiny), dtype=dtype), element=dtype.itemsize)


def counted(config: Config, *, ranks: int = 1, cuda: bool = False) -> tuple[Held, ...]:
    """What of the memory follows from shapes alone."""
    algorithm = build_algorithm(config.algorithm)
    reference = algorithm.reference_rule
    if isinstance(reference, FrozenReference) and config.train.lora is not None:
        reference = AdapterOff()
    policy = skeleton(architecture(None, {"family": "qwen2_5_vl"}), dtype=torch.float32)
    shown = [Shown.assumed(text=20, visual=4, merge=2)]
    setting = Setting(
        ranks=ranks,
        cuda=cuda,
        device_bytes=80e9,
        reference=reference,
        needs_reference=algorithm.needs_reference,
        returns_blocks=False,
    )
    step = step_of(config, policy, shown, ranks=ranks, completion=32, source="")
    return memory_of(config, sizes_for(config), step, setting, Rehearsed(phases={})).parts


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if "2B" in name else [pytest.mark.slow]) for name in PUBLISHED]
)
def test_published_models_have_the_parameters_that_the_hub_states(name: str) -> None:
    policy = skeleton(architecture(name), dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in policy.parameters()) == STATED[name]
    assert {parameter.device.type for parameter in policy.parameters()} == {"meta"}


def test_a_model_whose_sizes_are_unknown_says_what_to_give() -> None:
    with pytest.raises(ModelError, match=r"Fetch its config\.json alone .* --model-config"):
        architecture("Someone/Unknown-VL-9B")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.freeze=[vision, projector]",),
        ("train.lora={rank: 4}",),
        ("backend.dtype=bfloat16",),
        ("backend.dtype=bfloat16", "train.lora={rank: 4, parts: [language, vision]}"),
        ("algorithm=grpo_care",),
        ("algorithm=grpo_care", "backend.dtype=bfloat16"),
    ],
    ids=" ".join,
)
def test_what_is_always_there_is_the_real_tensors_bytes(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """Weights, masters, AdamW's memory after an update, and the reference's copies: equal, not close."""
    config = config_of(tmp_path, *overrides)
    assert config.model.tiny is not None
    save_tiny_model(tmp_path / "model", **config.model.tiny.model_dump())
    model = build.load_policy(config, str(tmp_path / "model"), to_train=True)
    build.add_configured_adapters(config, model)
    backend = build.build_backend(
        config,
        model,
        steps=10,
        learning_rate=1e-4,
        warmup_steps=0,
        schedule="constant",
        algorithm=build_algorithm(config.algorithm),
    )
    group = toy.random_group(prompt_of("one", [Image(2, 2)], model), size=2, seed=0)
    backend.begin_step()
    for parts in backend.micro_batches([group]):
        out, _ = backend.forward(parts)
        backend.backward(out.logprobs.sum())
    backend.optimizer_step()
    state = backend.state()

    def held(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.nbytes if value.dim() else 0  # without AdamW's counts
        return sum(map(held, value.values())) if isinstance(value, dict) else 0

    found = {part.name: part.bytes for part in counted(config) if part.exact and part.phase == "always"}
    assert found.pop("weights") == sum(parameter.nbytes for parameter in model.policy.parameters())
    assert found.pop("AdamW's memory") == held(state["moments"])
    assert found.pop("float32 masters", 0) == held(state["masters"])
    copies = {name: held(values) for name, values in state["copies"].items()}
    if config.backend.dtype == "float32":
        copies.pop("precise", None)  # the very tensors of the reference
    assert {name.split("(")[1][:-1]: size for name, size in found.items()} == copies


def test_times_grow_with_the_layers_that_were_not_tried() -> None:
    """By hand: 1 s at (1, 1), 0.2 s a layer, 0.5 s a block: 1 + 9 · 0.2 + 3 · 0.5."""
    tried = {
        Depth(layers=1, blocks=1): {"update": 1.0},
        Depth(layers=3, blocks=1): {"update": 1.4},
        Depth(layers=1, blocks=2): {"update": 1.5},
    }
    assert extrapolated(tried, layers=10, blocks=4)["update"] == pytest.approx(4.3)
    assert depths(1, 1) == [Depth(layers=1, blocks=1)]


def test_an_unknown_gpu_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown GPU 'h1000'\. Did you mean 'h100'\?"):
        gpu("h1000")
    assert gpu("H100", memory_gib=10).memory == 10 * 2**30
    assert all(device.cuda and device.rated for device in GPUS.values())


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("NVIDIA B200", "b200"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("A100-PCIE-40GB", "a100-40-pcie"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla V100-PCIE-32GB", "v100-pcie"),
        ("Tesla T4", "t4"),
        # Others, however much of a name they share.
        ("NVIDIA A10G", None),
        ("NVIDIA A30", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla P100-PCIE-16GB", None),
        ("Quadro RTX 6000", None),
    ],
)
def test_a_gpu_is_known_by_its_whole_name(label: str, key: str | None) -> None:
    assert known_as(label) == key


def test_the_gpu_that_is_here_has_its_own_memory_and_the_rates_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(CALLED) <= set(GPUS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: GpuThere("NVIDIA A100-SXM4-40GB", 42 * 10**9))
    assert gpu_here() == replace(GPUS["a100-40"], name="NVIDIA A100-SXM4-40GB", memory=42e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: GpuThere("NVIDIA Next", 7 * 2**30))
    unknown = gpu_here()
    assert unknown is not None
    assert (unknown.name, unknown.memory, unknown.rated, unknown.cuda) == ("NVIDIA Next", 7.0 * 2**30, False, True)


@dataclass
class GpuThere:
    """What torch says of a GPU."""

    name: str
    total_memory: int


def test_on_an_unknown_gpu_memory_is_told_and_times_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config_of(tmp_path)
    unknown = Device(name="NVIDIA Next", memory=7.0 * 2**30, rate=0.0, bandwidth=0.0, link=0.0)
    monkeypatch.setattr("mmrl.forecast.predict.gpu_here", lambda: unknown)
    assert main(["plan", str(tmp_path / "config.yaml"), "--gpus", "2"]) == 0
    told = capsys.readouterr().out
    assert "qwen2_5_vl on 2 × NVIDIA Next" in told
    assert "of 7.00 GiB: fits." in told
    assert "how fast NVIDIA Next is, is not known: no times are told" in told
    assert "time of a step" not in told
    assert "Together" not in told


def test_servers_beside_the_policy_are_said_not_to_be_counted(tmp_path: Path) -> None:
    def said(*overrides: str, device: Device = GPUS["l4"]) -> list[str]:
        fixed = ("rollout.engine=vllm_server", "backend.dtype=bfloat16")
        return left_out(config_of(tmp_path, *fixed, *overrides), device)

    [note] = said("rollout.servers.start=2", "rollout.vllm.memory_share=0.35")
    assert note.startswith("rollout.servers.gpus is empty: 2 server(s) start on this GPU too")
    assert "35% each (rollout.vllm.memory_share), is not in it" in note
    assert said("rollout.servers={start: 1, gpus: [1]}") == []
    assert said("rollout.servers={urls: ['http://other:8000']}") == []
    assert said("rollout.engine=vllm") == []
    assert said(device=replace(GPUS["l4"], cuda=False)) == []


def test_rates_of_another_number_format_are_said_to_be_so(tmp_path: Path) -> None:
    [note] = left_out(config_of(tmp_path, "backend.dtype=float32"), GPUS["l4"])
    assert note.startswith("rates are those of bfloat16")
    assert left_out(config_of(tmp_path, "backend.dtype=bfloat16"), GPUS["l4"]) == []


def test_zero_stages_spread_what_they_say(tmp_path: Path) -> None:
    """Per rank of 4: stage 1 masters and moments, 2 gradients, 3 weights; offloaded parts lie on the host."""
    base = ("backend.type=deepspeed", "backend.dtype=bfloat16", "rollout.prompts_per_step=8")
    n = sizes_for(config_of(tmp_path, *base)).parameters

    def found(*overrides: str) -> dict[str, int]:
        return {
            held.name + (" host" if held.host else ""): held.bytes
            for held in counted(config_of(tmp_path, *base, *overrides), ranks=4, cuda=True)
            if held.phase in ("always", "update")
        }

    def near(value: float) -> Any:
        return pytest.approx(value, abs=2)

    one, two, three = (found(f"backend.zero_stage={stage}") for stage in (1, 2, 3))
    assert (one["weights"], two["weights"], three["weights"]) == (2 * n, 2 * n, near(2 * n / 4))
    assert one["float32 masters"] == two["float32 masters"] == near(n)
    assert one["AdamW's memory"] == near(2 * n)
    assert (one["gradients"], two["gradients"], three["gradients"]) == (4 * n, near(n), near(n))
    away = found("backend.zero_stage=2", "backend.offload_optimizer=cpu")
    assert away["AdamW's memory host"] == near(2 * n)
    assert "AdamW's memory" not in away
    assert "gradients" not in away


def test_micro_batches_are_those_of_the_run(tmp_path: Path) -> None:
    """Two groups of 4 · 31 + 100 positions: together under a budget of 448, apart below it, and split below 224."""
    policy = skeleton(architecture(None, {"family": "qwen2_5_vl"}), dtype=torch.float32)
    prompts = [Shown.assumed(text=96, visual=4, merge=2)]

    def positions(budget: int) -> list[int]:
        config = config_of(tmp_path, f"train.micro_batch_tokens={budget}")
        step = step_of(config, policy, prompts, ranks=1, completion=32, source="")
        return [one.positions for one in step.passes]

    assert positions(448) == [448]
    assert positions(447) == [224, 224]
    assert positions(223) == [193, 131, 193, 131]
    config = config_of(tmp_path, "train.minibatches=2")
    assert [len(update) for update in step_of(config, policy, prompts, ranks=1, completion=32, source="").updates] == [
        1,
        1,
    ]
    alone = step_of(config_of(tmp_path), policy, prompts, ranks=2, completion=32, source="")
    assert (len(alone.prompts), alone.rollouts) == (1, 4)


def test_a_step_on_a_gpu_takes_its_operations_over_the_rate(tmp_path: Path) -> None:
    """Twice the rate and bandwidth, without calls: half the time; two bytes a weight read for every token."""
    config = config_of(tmp_path, backend={"dtype": "bfloat16"})
    forecast = predict(config, Asked(gpu="a100", text_tokens=100, visual_tokens=16))
    works = work_of(config, forecast.sizes, forecast.step, forecast.setting, forecast.device)
    bare: Device = replace(forecast.device, call=0.0)
    fast = replace(bare, rate=2 * bare.rate, bandwidth=2 * bare.bandwidth)
    for name in ("prefill", "decode", "update", "optimiser"):
        assert works[name].on(fast) == pytest.approx(works[name].on(bare) / 2)
    assert works["update"].operations > 3 * 2 * forecast.sizes.decoder.weights * forecast.step.passes[0].positions
    assert works["decode"].bytes > 32 * 2 * forecast.sizes.decoder.weights


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_what_would(tmp_path: Path) -> None:
    """A GPU as large as the forecast with gradient checkpointing, rounded up, takes the run with it and not without."""
    config = config_of(tmp_path, rollout={"prompts_per_step": 8, "group_size": 8, "max_tokens": 64})
    asked = Asked(gpu="h100", text_tokens=60, visual_tokens=0)
    known = ("backend.gradient_checkpointing=true",)
    room = predict(changed(config, list(known)), asked).peak / 2**30 + 1e-6
    less = replace(asked, gpu_memory_gib=room)
    forecast = predict(config, less)
    assert not forecast.fits
    assert forecast.memory.worst == "update"
    found = remedies(config, forecast, less)
    by_settings = {change.settings: change for change in found}
    assert by_settings[known].fits
    assert not by_settings[known].learns_otherwise
    assert by_settings[known].seconds > 0
    assert predict(changed(config, list(known)), less).peak == forecast.peak - by_settings[known].saves
    assert by_settings["rollout.group_size=4",].learns_otherwise
    order = [(change.learns_otherwise, not change.fits) for change in found]
    assert order == sorted(order)


@pytest.mark.slow
def test_large_pictures_are_told_with_smaller_ones_that_would_fit(tmp_path: Path) -> None:
    """Little else can be changed. 1,120 × 840 pixels are 1,200 tokens; half as many pixels need less."""
    samples = pictures_of(tmp_path, 1120, 840)
    config = config_of(
        tmp_path,
        data={"train": str(samples)},
        train={"lora": {"rank": 4}, "micro_batch_tokens": 2000},
        backend={"dtype": "bfloat16", "gradient_checkpointing": True},
        rollout={"prompts_per_step": 1, "group_size": 2, "max_tokens": 16},
    )
    settings = ("model.max_pixels=470400",)
    smaller = predict(changed(config, list(settings)), Asked(gpu="l4"))
    asked = Asked(gpu="l4", gpu_memory_gib=smaller.peak / 2**30 + 1e-6)
    forecast = predict(config, asked)
    assert not forecast.fits
    assert forecast.step.visual == 1200
    [found] = [change for change in remedies(config, forecast, asked) if "max_pixels" in change.settings[0]]
    assert found.settings == settings
    assert found.fits
    assert found.learns_otherwise
    assert found.saves == forecast.peak - smaller.peak > 0.01 * forecast.peak


@pytest.mark.slow
def test_a_recipe_for_eight_gpus_is_planned_here(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(ROOT / "configs/recipes/refcoco/qwen2_5_vl_7b_8gpu.yaml")
    assert main(["plan", recipe, "--gpu", "h100", "--gpus", "8", "--visual-tokens", "400", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["parameters"].values()) == STATED["Qwen/Qwen2.5-VL-7B-Instruct"]
    [weights] = [held["bytes"] for held in found["memory"] if held["name"] == "weights"]
    assert weights == pytest.approx(2 * STATED["Qwen/Qwen2.5-VL-7B-Instruct"] / 8, abs=1)
    assert found["fits"]
    assert set(found["seconds"]) >= {"vision", "prefill", "decode", "update", "optimiser"}


def test_rollouts_ahead_take_the_longer_of_two(tmp_path: Path) -> None:
    """Sampling and all else, 3 s and 5 s by hand, side by side."""
    config = config_of(tmp_path, rollout={"engine": "vllm_server", "servers": {"start": 1}, "prompts_per_step": 2})
    ahead = predict(changed(config, ["rollout.ahead=1"]), Asked(gpu="h100", text_tokens=20, visual_tokens=4))
    assert [note for note in ahead.notes if "rollout.servers.gpus" in note]
    seconds = {"prefill": 1.0, "decode": 2.0, "update": 4.0, "rest": 1.0}
    assert replace(ahead, seconds=seconds, ahead=False).total_seconds == 8.0
    assert replace(ahead, seconds=seconds).total_seconds == 5.0


@pytest.mark.slow
def test_a_small_model_takes_real_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without being asked; and where it cannot, or may not, sums stand in their place and it is said why."""
    config_of(tmp_path, backend={"device": "cpu", "threads": 1})

    def planned(*more: str) -> dict[str, Any]:
        assert main(["plan", str(tmp_path / "config.yaml"), "--json", *more]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    timed = planned("algorithm={base: grpo, filters: [mixed_correctness]}")  # which random weights never pass
    assert timed["basis"] == "real steps of the model with random weights on this machine"
    assert tuple(timed["seconds"]) == PARTS
    assert timed["step_seconds"] == pytest.approx(sum(timed["seconds"].values()))
    assert min(timed["seconds"][part] for part in ("vision and prefill", "decode", "update", "optimiser")) > 0.0
    assert timed["notes"] == []
    summed = planned("--no-probe")
    assert summed["basis"] == "operations and bytes over the device's rates"
    assert summed["notes"] == []
    for more, reason in (
        (["backend.type=deepspeed"], "backend.type: torch"),
        (["--text-tokens", "40"], "--text-tokens"),
        (["--gpus", "2"], "those of one rank"),
        (["model.tiny.hidden_size=1024", "model.tiny.layers=8"], "--probe tries shallow copies"),
    ):
        other = planned(*more)
        assert other["basis"] == summed["basis"]
        assert reason in other["notes"][-1]
