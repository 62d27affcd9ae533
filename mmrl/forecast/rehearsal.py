"""One rank's step, done by the run's own code on tensors without memory: what is alive when most is.

    rollouts    the engine's prefilling pass and one token of every completion; some completions end
    passes      old and reference log-probabilities
    update      forward and backward: the largest micro-batch, after another one where there are several
    optimiser   AdamW's step, which is not the first

Nothing about the model's layers is written down here: what a layer keeps for its backward pass, and what exists for a
moment only, is found by doing it. Not seen: what operations use inside, and how tightly an allocator packs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.build import build_sampling
from mmrl.config.schema import Config
from mmrl.forecast.ledger import Ledger
from mmrl.forecast.step import Shown, Step
from mmrl.forecast.weightless import Weightless
from mmrl.policy.load import LoadedModel
from mmrl.policy.packed import Part
from mmrl.policy.policy import Policy, other_features
from mmrl.policy.rms_norm import RmsNorm
from mmrl.rollout.engine import Sampling
from mmrl.rollout.sampling import draw, sampled_distribution
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.training.update import shares
from mmrl.types import Answer, Completion, Prompt, Rollout, RolloutGroup, Sample, VisionInputs

STAY = 0.89  # of the completions, when the first that ended leave the batch
IMAGE: Literal["image"] = "image"
ROLLOUT, PASSES, UPDATE, OPTIMISER = "rollout", "passes", "update", "optimiser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """Bytes beyond what is always there, when most are alive, by phase and by what made them."""

    phases: Mapping[str, Mapping[str, int]]

    def peak(self, phase: str) -> int:
        return sum(self.phases.get(phase, {}).values())


def rehearse(
    config: Config,
    make: Callable[[int, int], Policy],
    step: Step,
    *,
    layers: int,
    blocks: int,
    levels: int,
    patch_values: int,
    needs_reference: bool,
    ranks: int,
    cuda: bool,
) -> Rehearsed:
    """`make` gives a skeleton of so many decoder layers and tower blocks, with the config's adapters.

    Of a deep model, shallow copies: between two moments of a step, the most that is alive grows by the same for every
    layer. `levels`: of features, the tower needs a block for each. `patch_values`: of one patch. `cuda`: norms are
    transformers' own, as on a GPU; attention is the processor's all the same.
    """

    def tried(layers: int, blocks: int) -> list[Moment]:
        return _tried(config, make(layers, blocks), step, patch_values, needs_reference, alone=ranks == 1, cuda=cuda)

    low, few = min(layers, max(2, levels)), min(blocks, max(2, levels))
    if layers <= low + 2 and blocks <= few + 2:
        moments = tried(layers, blocks)
    else:
        base, deeper, taller = tried(low, few), tried(low + 1, few), tried(low, few + 1)
        moments = [
            Moment(phase=one.phase, bytes=_grown(one.bytes, (more.bytes, layers - low), (most.bytes, blocks - few)))
            for one, more, most in zip(base, deeper, taller, strict=True)
        ]
    phases: dict[str, Mapping[str, int]] = {}
    for moment in moments:
        if sum(moment.bytes.values()) > sum(phases.get(moment.phase, {}).values()):
            phases[moment.phase] = moment.bytes
    return Rehearsed(phases=phases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A stretch of a phase, and what was alive in it when most was, by what made it."""

    phase: str
    bytes: Mapping[str, int]


def _grown(base: Mapping[str, int], *more: tuple[Mapping[str, int], int]) -> dict[str, int]:
    makers = {maker for one in (base, *(deeper for deeper, _ in more)) for maker in one}
    grown = {
        maker: base.get(maker, 0) + sum(times * (deeper.get(maker, 0) - base.get(maker, 0)) for deeper, times in more)
        for maker in makers
    }
    return {maker: size for maker, size in grown.items() if size > 0}


def _tried(
    config: Config, policy: Policy, step: Step, patch_values: int, needs_reference: bool, *, alone: bool, cuda: bool
) -> list[Moment]:
    weightless, ledger = Weightless(), Ledger()
    weightless.replace(policy)
    if cuda:
        _plain_norms(policy)
    with weightless:
        pixels = {shown: weightless.tensor(shown.patches, patch_values) for shown in set(step.prompts)}
        groups = [_group(i, one, pixels[one], policy, step) for i, one in enumerate(step.prompts)]
        rehearsal = _Rehearsal(config, policy, step, groups, ledger, alone=alone)
    with ledger, weightless:
        return rehearsal.run(needs_reference)


class _Rehearsal:
    def __init__(
        self,
        config: Config,
        policy: Policy,
        step: Step,
        groups: list[RolloutGroup],
        ledger: Ledger,
        *,
        alone: bool,
    ) -> None:
        self._config, self._policy, self._ledger = config, policy, ledger
        _watch(policy, ledger)
        self._step, self._groups = step, groups
        self._backend = TorchBackend(
            LoadedModel(policy=policy, processor=SimpleNamespace(tokenizer=_NoTokenizer(policy))),
            OptimizerSettings(learning_rate=1e-4, steps=10),
            freeze=config.train.freeze,
            micro_batch_tokens=config.train.micro_batch_tokens,
            checkpoint_layers=config.backend.gradient_checkpointing,
        )
        if not (alone and config.backend.type == "torch"):
            self._backend._held_patches = 0  # several ranks hold no graph from the rollouts, nor does DeepSpeed
        self._masters = self._backend._masters
        masters = {id(p): self._masters.of(p) for p in policy.parameters() if p.requires_grad}
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_giver(ledger, masters[id(parameter)]))
        self._moments: list[Moment] = []
        self._to_reach: set[str] = set()  # of a backward pass: the last layer, the first
        layers = cast(Any, policy.family.language_model(policy.model)).layers
        for name, layer in (("last", layers[-1]), ("first", layers[0])):
            for parameter in layer.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(self._arrival(name))
        self._backend.optimizer_step()  # AdamW's memory is there from the first update on

    def run(self, needs_reference: bool) -> list[Moment]:
        config, ledger, backend = self._config, self._ledger, self._backend
        ledger.begin()
        self._policy.features.begin_step(held_patches=backend._held_patches)
        if config.rollout.engine == "transformers":
            with torch.no_grad():
                self._sample()
        if needs_reference:
            with ledger.made_by("reference's pass"), other_features(self._policy):
                backend.outputs(self._groups)
            self._reached(PASSES)
        if config.train.minibatches > 1:
            with ledger.made_by("old pass"):
                backend.outputs(self._groups)
            self._reached(PASSES)
        first = shares(range(len(self._groups)), config.train.minibatches)[0]
        self._update([self._groups[i] for i in first])
        with ledger.made_by("AdamW"):
            backend.optimizer_step()
        self._reached(OPTIMISER)
        return self._moments

    def _reached(self, phase: str) -> None:
        """A moment is over."""
        alive = {maker: size for maker, size in self._ledger.at_peak.items() if size}
        self._moments.append(Moment(phase=phase, bytes=alive))
        self._ledger.begin()

    def _arrival(self, where: str) -> Callable[[Tensor], None]:
        """What is alive on a backward pass falls or rises evenly between the last layer and the first."""

        def arrived(parameter: Tensor) -> None:
            if where in self._to_reach:
                self._to_reach.discard(where)
                self._reached(UPDATE)

        return arrived

    def _sample(self) -> None:
        """As `TransformersEngine`: prefill, a token, and what is left when some have ended."""
        policy, ledger, sampling = self._policy, self._ledger, _sampling(self._config, self._step)
        tokenizer = _NoTokenizer(policy)
        engine = TransformersEngine(policy, tokenizer, run_seed=0)
        policy.eval()
        prompts = [group.prompt for group in self._groups]
        counts = [self._step.group_size] * len(prompts)
        if not policy.family.packs:
            longest = max(len(prompt.token_ids) for prompt in prompts)
            prompts = [prompt for prompt in prompts if len(prompt.token_ids) == longest]
            counts = counts[: len(prompts)]
        cache, logits, following = engine._prefill(prompts, counts, sampling)
        for name, pairs in (("prompts", "_prefix"), ("completions", "_own")):
            for tensor in (tensor for pair in getattr(cache, pairs, ()) for tensor in pair):
                ledger.give(tensor, f"keys and values of {name}")
        self._reached(ROLLOUT)
        with ledger.made_by("sampling"):
            numbers = torch.zeros(len(logits))
            for _ in range(2):
                behavior = sampled_distribution(logits, sampling, torch.tensor([0]))
                chosen = draw(behavior, numbers, greedy=sampling.temperature == 0)
                logits.log_softmax(-1)
                stay = torch.arange(max(1, int(STAY * len(numbers))))
                if len(stay) < len(numbers):
                    cache.keep(stay)
                    chosen, following, numbers = chosen[stay], following[stay], numbers[stay]
                hidden = policy.hidden_states(
                    policy.family.token_embedding(policy.model)(chosen[:, None]),
                    positions=following.expand(3, -1)[..., None],
                    attention=None,
                    cache=cache,
                )
                logits = policy.logits(hidden[:, 0])
        self._reached(ROLLOUT)
        policy.train()

    def _update(self, groups: Sequence[RolloutGroup]) -> None:
        backend, ledger = self._backend, self._ledger
        for parts in _largest_last(backend.micro_batches(groups)):
            with ledger.made_by("head"):
                out, _ = backend.forward(parts, entropy=True)
            self._reached(UPDATE)
            self._to_reach = {"last", "first"}
            with ledger.made_by("on the way back"):
                backend.backward(out.logprobs.sum())
            del out
            self._reached(UPDATE)
        with ledger.made_by("on the way back"):
            backend._finish_gradients()
        self._reached(UPDATE)


class _NoTokenizer:
    """What is asked of one here: how many ids there are, and which is the padding."""

    pad_token_id = 0
    eos_token_id = None

    def __init__(self, policy: Policy) -> None:
        self._size = int(policy.config.get_text_config().vocab_size)

    def __len__(self) -> int:
        return self._size

    def get_vocab(self) -> dict[str, int]:
        return {}


def _watch(policy: Policy, ledger: Ledger) -> None:
    """Let the ledger know who computes: the tower, the decoder."""
    encode, join = policy.family.encode_vision, policy._encode

    def encode_vision(model: Any, patches: Tensor, grids: Any) -> Tensor:
        with ledger.made_by("tower"):
            return encode(model, patches, grids)

    def joined(media: Any) -> Any:
        with ledger.made_by("pictures, joined"):
            return join(media)

    policy.family = replace(policy.family, encode_vision=encode_vision)
    policy._encode = joined  # type: ignore[method-assign]
    hidden_states = policy.hidden_states

    def decoded(*args: Any, **options: Any) -> Tensor:
        with ledger.made_by("decoder"):
            return hidden_states(*args, **options)

    policy.hidden_states = decoded  # type: ignore[method-assign]


def _giver(ledger: Ledger, master: Tensor) -> Any:
    """Counts a gradient as one as soon as it is there."""

    def give(parameter: Tensor) -> None:
        gradient = parameter.grad if parameter.grad is not None else master.grad
        if gradient is not None:
            ledger.give(gradient, "gradients")

    return give


def _plain_norms(policy: Policy) -> None:
    """transformers' own norms: what runs on a GPU."""
    for module in policy.modules():
        if isinstance(module, RmsNorm):
            module.__class__ = type(module).__bases__[1]


def _largest_last(micro_batches: Sequence[list[Part]]) -> list[list[Part]]:
    """The one with most tokens and pictures, after another: gradients are there by then."""

    def size(parts: Sequence[Part]) -> int:
        shown = {part.prompt.sample.id: part.prompt.vision for part in parts}
        return sum(part.tokens for part in parts) + sum(len(v.patches) for v in shown.values() if v is not None)

    order = sorted(micro_batches, key=size)
    return [order[0], order[-1]] if len(order) > 1 else list(order)


def _sampling(config: Config, step: Step) -> Sampling:
    return replace(build_sampling(config), group_size=step.group_size, max_tokens=step.completion, stop=())


def _group(number: int, shown: Shown, pixels: Tensor, policy: Policy, step: Step) -> RolloutGroup:
    completion = step.completion
    rollouts = tuple(
        Rollout(
            completion=Completion(text="", token_count=completion),
            token_ids=(0,) * completion,
            behavior_logprobs=(0.0,) * completion,
            policy_logprobs=(0.0,) * completion,
            index=i,
            seed=0,
            policy_version=0,
        )
        for i in range(step.group_size)
    )
    return RolloutGroup(prompt=_prompt(number, shown, pixels, policy), rollouts=rollouts)


def _prompt(number: int, shown: Shown, pixels: Tensor, policy: Policy) -> Prompt:
    """A token of text, the pictures one after the other, the rest of the text. A clip is a picture per grid time."""
    config, merge = policy.config, policy.family.merge_size(policy.config)
    slots, at = [], 1
    for _, height, width in shown.grids:
        count = height * width // merge**2
        slots.append((at, at + count))
        at += count
    ids = [0, *[getattr(config, "image_token_id", 0)] * (at - 1), *[0] * (shown.tokens - at)]
    vision = None
    if shown.grids:
        vision = VisionInputs(
            patches=pixels,
            grids=shown.grids,
            kinds=(IMAGE,) * len(shown.grids),
            seconds_per_grid=(0.0,) * len(shown.grids),
            digests=tuple(f"{number}-{i}" for i in range(len(shown.grids))),
        )
    return Prompt(
        sample=Sample(id=str(number), task="", question="", answer=Answer(type="text", value="")),
        text="",
        token_ids=tuple(ids),
        media_slots=tuple(slots),
        vision=vision,
    )
