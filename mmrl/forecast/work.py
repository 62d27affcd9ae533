"""How long a step's parts take: operations over the device's rate, bytes over its bandwidth, calls by their number.

    seconds = max(operations / (rate · efficiency), bytes / (bandwidth · read)) + calls · seconds of a call

Products with weights count two operations per number and position, attention four per pair, width and layer, as in
`policy/cost.py`. A backward pass is twice its forward pass, and with gradient checkpointing that is made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmrl.config.schema import Config
from mmrl.forecast.device import Device
from mmrl.forecast.memory import Setting
from mmrl.forecast.sizes import Sizes
from mmrl.forecast.step import Pass, Step

LAYER_CALLS = 40  # operations of a decoder layer or a tower's block, forward
GRAPH_CALLS = 500  # what a token step of vLLM with CUDA graphs costs besides, in operations; assumed
OPTIMISER_BYTES = 28  # read and written per number: weight, gradient, two moments
REST_SECONDS = 0.05  # of a step: rewards whose time is bounded, credit, traces
SAMPLED = ("prefill", "decode")  # what servers do meanwhile, where rollouts are ahead
PARTS = ("vision", "prefill", "decode", "old and reference passes", "update", "optimiser", "weights to vLLM", "rest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Of one part."""

    operations: float = 0.0
    bytes: float = 0.0
    calls: float = 0.0
    seconds: float = 0.0  # that no rate of the device tells

    def on(self, device: Device) -> float:
        """Seconds."""
        computing = self.operations / (device.rate * device.efficiency)
        reading = self.bytes / (device.bandwidth * device.read)
        return max(computing, reading) + self.calls * device.call + self.seconds


def work_of(config: Config, sizes: Sizes, step: Step, setting: Setting, device: Device) -> dict[str, Work]:
    """One rank's step, by part."""
    learning = 4.0 if config.backend.gradient_checkpointing else 3.0
    passes = int(setting.needs_reference) + int(config.train.minibatches > 1)
    tower_again = 0.0 if not sizes.tower_learns else 1.0
    forward = [_decoder(sizes, one) for one in step.passes]
    layers = LAYER_CALLS * sizes.layers * len(step.passes)
    meeting = _meetings(config, sizes, setting, device, passes=passes, micro_batches=len(step.passes))
    tower = tower_operations(sizes, step)
    blocks = LAYER_CALLS * sizes.depth
    found = {
        "vision": Work(
            operations=tower * (1 + (passes + learning - 1) * tower_again),
            calls=blocks * (1 + 2 * tower_again * len(step.passes)),
        ),
        "prefill": _prefill(sizes, step),
        "decode": _decode(config, sizes, step, device),
        "old and reference passes": Work(operations=passes * sum(forward), calls=passes * layers, seconds=meeting[0]),
        "update": Work(operations=learning * sum(forward), calls=learning * layers, seconds=meeting[1]),
        "optimiser": _optimiser(config, sizes, setting, device, updates=len(step.updates)),
        "rest": Work(seconds=REST_SECONDS),
    }
    if config.rollout.engine != "transformers":
        found["weights to vLLM"] = Work(bytes=3.0 * sizes.weights)
    return found


def tower_operations(sizes: Sizes, step: Step) -> float:
    """One forward pass over all pictures of the step."""
    products = 2.0 * step.patches * (sizes.parts["vision"] + sizes.parts["projector"] / sizes.merge**2)
    pairs = 0.0
    for prompt in step.prompts:
        windows = min(prompt.patches, sizes.window or prompt.patches)
        pairs += sizes.full_blocks * prompt.patches**2 + (sizes.depth - sizes.full_blocks) * prompt.patches * windows
    return products + 4.0 * sizes.vision * pairs


def _decoder(sizes: Sizes, one: Pass) -> float:
    shape = sizes.decoder
    head = 2.0 * sizes.hidden * sizes.vocabulary * one.scored
    return 2.0 * shape.weights * one.positions + 4.0 * shape.layers * shape.width * one.pairs + head


def _prefill(sizes: Sizes, step: Step) -> Work:
    shape = sizes.decoder
    positions = len(step.prompts) * step.longest
    pairs = len(step.prompts) * step.longest**2 / 2
    return Work(
        operations=2.0 * shape.weights * positions + 4.0 * shape.layers * shape.width * pairs,
        calls=LAYER_CALLS * sizes.layers,
    )


def _decode(config: Config, sizes: Sizes, step: Step, device: Device) -> Work:
    """Token by token, all rollouts at once: the weights are read for each, and all keys and values."""
    graphs = config.rollout.engine != "transformers" and device.cuda and not config.rollout.vllm.eager
    shape = sizes.decoder
    key_bytes = 2 * sizes.key * sizes.element * sizes.layers
    prefix = sum(prompt.tokens for prompt in step.prompts)
    own = step.rollouts * step.completion / 2
    head = sizes.hidden * sizes.vocabulary
    each = 2.0 * step.rollouts * (shape.weights + head)
    keys = step.group_size * prefix + own
    return Work(
        operations=step.completion * (each + 4.0 * shape.layers * shape.width * keys),
        bytes=step.completion * ((shape.weights + head) * sizes.element + key_bytes * (prefix + own)),
        calls=step.completion * (GRAPH_CALLS if graphs else LAYER_CALLS * sizes.layers + 60),
    )


def _optimiser(config: Config, sizes: Sizes, setting: Setting, device: Device, *, updates: int) -> Work:
    spread = setting.ranks if config.backend.type == "deepspeed" and config.backend.zero_stage else 1
    numbers = updates * sizes.learning / spread
    if device.cuda and config.backend.offload_optimizer != "none":
        return Work(seconds=numbers * (4 + sizes.element) / device.host_link + numbers * OPTIMISER_BYTES / 100e9)
    return Work(bytes=numbers * OPTIMISER_BYTES, calls=updates * 200)


def _meetings(
    config: Config, sizes: Sizes, setting: Setting, device: Device, *, passes: int, micro_batches: int
) -> tuple[float, float]:
    """Seconds of travelling: (in old and reference passes, in updates). What is computed meanwhile hides none of it."""
    if setting.ranks == 1:
        return 0.0, 0.0
    share = (setting.ranks - 1) / setting.ranks
    gradients = sizes.learning * sizes.element * share / device.link
    stage = config.backend.zero_stage if config.backend.type == "deepspeed" else 0
    if stage < 3:
        times = micro_batches if stage == 2 else 1
        return 0.0, 2 * gradients * times
    weights = sizes.weights * share / device.link
    return passes * micro_batches * weights, micro_batches * (2 * weights + gradients)


def seconds_of(works: Mapping[str, Work], device: Device) -> dict[str, float]:
    """By part, in the order of PARTS."""
    return {name: works[name].on(device) for name in PARTS if name in works}
