"""A config → what its run will take."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mmrl.algorithms.build import build_algorithm
from mmrl.algorithms.reference import AdapterOff, FrozenReference
from mmrl.backend.deepspeed_backend import import_deepspeed
from mmrl.build.backend import saves_memory
from mmrl.config.load import changed
from mmrl.config.schema import Config
from mmrl.errors import ConfigError, RunError
from mmrl.forecast.device import Device, gpu, gpu_here, processor
from mmrl.forecast.memory import Held, Memory, Setting, memory_of
from mmrl.forecast.probe import STEPS, probe, samples_file
from mmrl.forecast.prompts import Prompts, prompts_of, prompts_within
from mmrl.forecast.rehearsal import rehearse
from mmrl.forecast.sizes import Sizes, sizes_of
from mmrl.forecast.step import Step, step_of
from mmrl.forecast.work import SAMPLED, seconds_of, work_of
from mmrl.memory import free_memory_bytes, memory_mib
from mmrl.policy.policy import Policy
from mmrl.policy.skeleton import architecture, processor_of, skeleton
from mmrl.rollout.vllm_sampler import import_vllm

GIB = 2**30
LIBRARIES = 0.9 * GIB  # Python, torch and the libraries beside a GPU; on a processor this process is measured
CONTEXT = 0.7 * GIB  # CUDA's context and the libraries' workspace
MEETING = 0.4 * GIB  # NCCL's buffers, with several ranks
# Of what comes and goes: what the allocator holds and cannot use; on a GPU, not on one.
SLACK = {True: 0.06, False: 0.12}
HEAP = 150 * 2**20  # on a processor the C library keeps about so much more of it, or all of it where it is less
PROBE_OPERATIONS = 4e12  # of a whole step: above that the processor is not probed with real steps
WHOLE_OPERATIONS = 2e11  # … and below this with all layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the config does not say. Zero: as the config and the machine have it."""

    model_config: Path | None = None  # config.json, or a folder that holds it, of a model that is not here
    gpu: str = ""  # a name of `GPUS`: plan for that one; empty: this machine
    gpu_memory_gib: float | None = None
    ranks: int = 1
    text_tokens: int = 0
    visual_tokens: int = -1  # of a prompt; −1: as the samples or the limits say
    completion_tokens: int = 0
    probe: bool | None = False  # time real steps on this machine; None: where the whole model takes them in seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one rank takes."""

    sizes: Sizes
    prompts: Prompts
    step: Step
    setting: Setting
    device: Device
    memory: Memory
    base: int  # bytes besides tensors: process and libraries, or CUDA's context
    host_base: int
    seconds: Mapping[str, float]  # of a step, by part; empty: not known
    capacity: int  # bytes that may be used; of the processor's memory a rank's share
    host_capacity: int
    basis: str  # where the seconds are from
    ahead: bool = False  # the coming step's rollouts are sampled, elsewhere, while this one trains
    notes: tuple[str, ...] = field(default=())

    @property
    def peak(self) -> int:
        """Most bytes of the device, or of the process on a CPU."""
        return self.base + self.memory.peak() + _kept(self.memory, self.setting)

    @property
    def host_peak(self) -> int:
        """Most bytes of the processor's memory beside a GPU."""
        return self.host_base + self.memory.peak(host=True)

    @property
    def fits(self) -> bool:
        return self.peak <= self.capacity and self.host_peak * (self.setting.ranks if self.setting.cuda else 1) <= (
            self.host_capacity or math.inf
        )

    @property
    def total_seconds(self) -> float:
        """Of a step. Where rollouts are ahead: the longer of sampling and all else."""
        whole = sum(self.seconds.values())
        if not self.ahead:
            return whole
        sampled = sum(self.seconds.get(part, 0.0) for part in SAMPLED)
        return max(sampled, whole - sampled)


def predict(config: Config, asked: Asked) -> Forecast:
    """Everything. Raises ConfigError and ModelError for what is not known."""
    model, policy = _policy(config, asked)
    device = _device(config, asked, policy)
    element = 2 if config.backend.dtype == "bfloat16" else 4
    sizes = sizes_of(config, policy, element=element)
    prompts = prompts_of(config, policy, model, text_tokens=asked.text_tokens, visual_tokens=asked.visual_tokens)
    completion = asked.completion_tokens or config.rollout.max_tokens
    step = step_of(
        config,
        policy,
        prompts.shown,
        ranks=asked.ranks,
        completion=completion,
        source=prompts.source,
        samples=prompts.samples,
    )
    setting = _setting(config, asked, device)
    memory = _memory(config, policy, sizes, step, setting)
    base, missing = _libraries(config) if not device.cuda else (CONTEXT + (MEETING if asked.ranks > 1 else 0.0), ())
    works = work_of(config, sizes, step, setting, device) if device.rated else {}
    host = LIBRARIES + (1.5 * GIB if device.cuda else 0.0)
    forecast = Forecast(
        sizes=sizes,
        prompts=prompts,
        step=step,
        setting=setting,
        device=device,
        memory=memory,
        base=round(base),
        host_base=round(host) if device.cuda else 0,
        seconds=seconds_of(works, device),
        capacity=round(device.memory if device.cuda else device.memory / asked.ranks),
        host_capacity=0 if not device.cuda or asked.gpu else free_memory_bytes(),
        basis="operations and bytes over the device's rates" if device.rated else "not known",
        ahead=config.rollout.ahead > 0,
        notes=(*prompts.notes, *missing, *left_out(config, device)),
    )
    return _timed(config, asked, forecast, policy, operations=sum(work.operations for work in works.values()))


def again(config: Config, before: Forecast, asked: Asked) -> Forecast:
    """With another config on the same device, by operations and bytes alone: to compare settings.

    Prompts are the same, but for pictures and clips that the config limits otherwise.
    """
    model, policy = _policy(config, asked)
    sizes = sizes_of(config, policy, element=before.sizes.element)
    completion = min(before.step.completion, config.rollout.max_tokens)
    prompts = prompts_within(
        before.prompts, config, policy, model, text_tokens=asked.text_tokens, visual_tokens=asked.visual_tokens
    )
    step = step_of(
        config,
        policy,
        prompts.shown,
        ranks=asked.ranks,
        completion=completion,
        source=prompts.source,
        samples=prompts.samples,
    )
    setting = _setting(config, asked, before.device)
    works = work_of(config, sizes, step, setting, before.device) if before.device.rated else {}
    return replace(
        before,
        sizes=sizes,
        prompts=prompts,
        step=step,
        setting=setting,
        memory=_memory(config, policy, sizes, step, setting),
        seconds=seconds_of(works, before.device),
        ahead=config.rollout.ahead > 0,
    )


def _memory(config: Config, policy: Policy, sizes: Sizes, step: Step, setting: Setting) -> Memory:
    def make(layers: int, blocks: int) -> Policy:
        made = skeleton(_shallow(policy.config, layers, blocks), dtype=next(policy.parameters()).dtype)
        made.kernel = policy.kernel
        sizes_of(config, made, element=sizes.element)  # adds adapters, freezes
        return made

    rehearsed = rehearse(
        config,
        make,
        step,
        layers=sizes.layers,
        blocks=sizes.depth,
        levels=sizes.levels,
        patch_values=sizes.patch_values,
        needs_reference=setting.needs_reference,
        ranks=setting.ranks,
        cuda=setting.cuda,
    )
    return memory_of(config, sizes, step, setting, rehearsed)


def _kept(memory: Memory, setting: Setting) -> int:
    """Bytes that allocators hold beyond the tensors alive when most are."""
    moving = memory.peak() - memory.phase("always")
    returned = setting.cuda or setting.returns_blocks
    return round(SLACK[setting.cuda] * moving) + (0 if returned else min(HEAP, moving))


def _libraries(config: Config) -> tuple[float, tuple[str, ...]]:
    """(bytes of a process that has loaded all that a run loads: this one, as it is now; what is not here to load)."""
    import mmrl.traces.indexing
    import mmrl.training.loop
    import mmrl.training.tracking  # noqa: F401

    wanted = {"deepspeed": config.backend.type == "deepspeed", "vllm": config.rollout.engine == "vllm"}
    missing = []
    for package in (name for name, needed in wanted.items() if needed):
        if importlib.util.find_spec(package) is None:
            missing.append(f"{package} is not installed here: what its code takes of the process is not in it.")
        elif package == "deepspeed":
            import_deepspeed("cpu")
        else:
            import_vllm()
    return memory_mib() * 2**20, tuple(missing)


def left_out(config: Config, device: Device) -> list[str]:
    """What the forecast does not have, of a GPU."""
    found = []
    if not device.rated:
        found.append(f"how fast {device.name} is, is not known: no times are told (--gpu NAME plans for one that is)")
    elif device.cuda and config.backend.dtype == "float32":
        found.append("rates are those of bfloat16: with backend.dtype: float32 a GPU takes several times as long")
    servers, share = config.rollout.servers, config.rollout.vllm.memory_share
    if config.rollout.engine == "vllm_server" and servers.start and not servers.gpus and device.cuda:
        found.append(
            f"rollout.servers.gpus is empty: {servers.start} server(s) start on this GPU too, and their share of its "
            f"memory, {share:.0%} each (rollout.vllm.memory_share), is not in it"
        )
    return found


def _policy(config: Config, asked: Asked) -> tuple[Any, Policy]:
    """(processor or None, skeleton)."""
    tiny = config.model.tiny.model_dump() if config.model.tiny is not None else None
    path = config.model.path
    if asked.model_config is not None:
        given = asked.model_config
        path, tiny = str(given.parent if given.name == "config.json" else given), None
    dtype = torch.bfloat16 if config.backend.dtype == "bfloat16" else torch.float32
    policy = skeleton(architecture(path, tiny), dtype=dtype)
    policy.kernel = config.backend.attention
    return processor_of(path, tiny), policy


def _device(config: Config, asked: Asked, policy: Policy) -> Device:
    if asked.gpu:
        return gpu(asked.gpu, memory_gib=asked.gpu_memory_gib)
    here = gpu_here() if config.backend.device != "cpu" else None
    if here is not None:
        return here
    if config.backend.device == "cuda":
        raise ConfigError("backend.device is cuda, but torch sees no GPU here. Say which one to plan for: --gpu h100.")
    text = policy.config.get_text_config()
    return processor(
        hidden=text.hidden_size,
        inner=text.intermediate_size,
        threads=config.backend.threads,
        memory=float(free_memory_bytes()),
    )


def _setting(config: Config, asked: Asked, device: Device) -> Setting:
    algorithm = build_algorithm(config.algorithm)
    reference = algorithm.reference_rule
    if isinstance(reference, FrozenReference) and config.train.lora is not None:
        reference = AdapterOff()
    return Setting(
        ranks=asked.ranks,
        cuda=device.cuda,
        device_bytes=device.memory,
        reference=reference,
        needs_reference=algorithm.needs_reference,
        returns_blocks=saves_memory(config.backend),
    )


def _timed(config: Config, asked: Asked, forecast: Forecast, policy: Policy, *, operations: float) -> Forecast:
    """With the seconds of real steps, where they were asked for and can be taken; else with the reason why not."""
    if asked.probe is False or (asked.probe is None and forecast.setting.cuda):
        return forecast
    whole = operations < WHOLE_OPERATIONS
    reason = _not_probed(config, asked, forecast, operations)
    if asked.probe is None and not whole:
        reason = reason or "that would take longer than seconds; --probe tries shallow copies"
    if not reason:
        try:
            seconds, base = _probed(config, forecast, policy, whole=whole)
        except RunError as error:
            if asked.probe:
                raise
            reason = str(error)
        else:
            copies = "the model" if whole else "shallow copies"
            basis = f"real steps of {copies} with random weights on this machine"
            return replace(forecast, seconds=seconds, base=round(base), basis=basis)
    return replace(forecast, notes=(*forecast.notes, f"No real steps were timed: {reason}."))


def _not_probed(config: Config, asked: Asked, forecast: Forecast, operations: float) -> str:
    """Why no real steps can be taken here; empty: they can."""
    path = config.model.path
    for holds, reason in (
        (forecast.setting.cuda, "they are tried on processors only"),
        (asked.ranks > 1, "they are those of one rank"),
        (config.backend.type != "torch", "they are tried with backend.type: torch"),
        (config.rollout.engine != "transformers", "they are tried with rollout.engine: transformers"),
        (
            path is not None and not (Path(path) / "preprocessor_config.json").is_file(),
            f"{path} holds no preprocessor_config.json",
        ),
        (asked.text_tokens > 0, "prompts of --text-tokens are not made up"),
        (
            asked.visual_tokens >= 0 and samples_file(config) is not None,
            "the samples that are here have pictures of their own sizes, not --visual-tokens",
        ),
        (operations >= PROBE_OPERATIONS, "a step would take minutes on this processor"),
        (not forecast.fits, "the run does not fit"),
    ):
        if holds:
            return reason
    return ""


def _probed(config: Config, forecast: Forecast, policy: Policy, *, whole: bool) -> tuple[dict[str, float], float]:
    """(seconds by part, bytes of the process besides tensors): what the first copy held beyond its own forecast."""
    sizes, step, setting = forecast.sizes, forecast.step, forecast.setting
    mean = round(step.visual / len(step.prompts))
    config = changed(config, [f"rollout.max_tokens={step.completion}"])
    seconds, peak = probe(config, layers=sizes.layers, blocks=sizes.depth, visual=mean, whole=whole)
    shape = policy.config if whole else _shallow(policy.config, 1, 1)
    dtype = torch.bfloat16 if config.backend.dtype == "bfloat16" else torch.float32
    tried = skeleton(shape, dtype=dtype)
    tried.kernel = config.backend.attention
    # A probe takes few steps, and so holds the pixels of few.
    brief = changed(config, [f"train.steps={STEPS}", "train.warmup_steps=0"])
    own = _memory(brief, tried, sizes_of(config, tried, element=sizes.element), step, setting)
    return seconds, float(max(0, peak - own.peak() - _kept(own, setting)))


def _shallow(shape: Any, layers: int, blocks: int) -> Any:
    """The same model with fewer layers and blocks, as wide."""
    shape = copy.deepcopy(shape)
    text, vision = shape.get_text_config(), shape.vision_config
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    setattr(vision, "depth" if hasattr(vision, "depth") else "num_hidden_layers", blocks)
    if hasattr(vision, "fullatt_block_indexes"):
        vision.fullatt_block_indexes = [blocks - 1]
    if levels := len(getattr(vision, "deepstack_visual_indexes", None) or ()):
        vision.deepstack_visual_indexes = list(range(min(levels, blocks)))
    return shape


def held(forecast: Forecast) -> list[Held]:
    """The parts in the order of their phases, largest first within one."""
    from mmrl.forecast.memory import PHASES

    return sorted(forecast.memory.parts, key=lambda part: (PHASES.index(part.phase), -part.bytes))
