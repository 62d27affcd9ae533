"""DeepSpeed: the policy's parts spread over ranks, by ZeRO stage (arXiv:1910.02054).

    stage   spread over ranks                                  each rank holds whole
    0       nothing                                            everything
    1       the optimiser's memory and float32 masters         weights, gradients
    2       … and gradients                                    weights
    3       … and weights, the reference policy's as well      nothing

What is computed does not depend on the stage, nor on how many ranks there are (`tests/backend/test_deepspeed.py` holds
every stage to one plain process). Rules that this takes, all of them here or in `passes.py` and `Policy.forward`:

    the same modules everywhere    at stage 3 using a module is a meeting. Every rank makes equally many passes, uses
                                   the tower in a pass if any rank has a picture for it, and the head equally often
    gradients are sums             DeepSpeed takes the mean over ranks: losses, which are shares of the step's, are
                                   multiplied by the number of ranks
    DeepSpeed does not count       micro-batches are as many as there are; `step` is the boundary
    shards are like the whole      the reference's rule works number by number, so at stage 3 it is given shards
"""

from __future__ import annotations

import copy
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmrl.algorithms.reference import PRECISE, REFERENCE, AdapterOff, NoReference, Reference
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.masters import Masters
from mmrl.backend.optimizer import (
    build_optimizer,
    freeze_parts,
    parameter_groups,
    schedule,
    set_rates,
    trainable,
)
from mmrl.backend.passes import Passes, without_idle
from mmrl.backend.sharded import BUCKET_BYTES, Shards, gathered, whole_tensors
from mmrl.backend.spread import spread
from mmrl.batch import PolicyOutputs
from mmrl.errors import ConfigError
from mmrl.policy.adapters import SavedWeights, adapters_off, has_adapters, is_adapter, merging
from mmrl.policy.load import LoadedModel
from mmrl.policy.packed import PackedBatch, Part
from mmrl.policy.policy import Policy, share_features
from mmrl.policy.unread import copy_unread
from mmrl.ranks import Ranks
from mmrl.types import RolloutGroup

NO_REFERENCE = NoReference()


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroSettings:
    """What DeepSpeed spreads and where it puts it."""

    stage: Literal[0, 1, 2, 3] = 2
    offload_optimizer: Literal["none", "cpu"] = "none"  # stage 1 and more
    offload_weights: Literal["none", "cpu"] = "none"  # stage 3
    bucket_numbers: int = 200_000_000  # gradients or weights that travel at a time, at most


class DeepSpeedBackend:
    """The policy in a DeepSpeed engine."""

    def __init__(
        self,
        model: LoadedModel,
        settings: OptimizerSettings,
        zero: ZeroSettings,
        *,
        ranks: Ranks,
        reference: Reference = NO_REFERENCE,
        freeze: Sequence[str] = (),
        micro_batch_tokens: int = 16384,
        checkpoint_layers: bool = False,
        device: str = "cpu",
    ) -> None:
        check_possible(model.policy, settings, zero)
        deepspeed = import_deepspeed(device)
        self._model = model
        self._settings = settings
        self._zero = zero
        self._ranks = ranks
        self._device = torch.device(device)
        self._rule = reference
        policy = self.policy
        policy.train()
        if isinstance(reference, AdapterOff) and not has_adapters(policy.model):
            raise ConfigError("algorithm.reference: adapter_off needs adapters; give train.lora, or take frozen.")
        self._dtype = next(p.dtype for p in policy.parameters() if p.is_floating_point())
        self._reference = self._copy_of_policy() if REFERENCE in reference.copies else None
        freeze_parts(policy, freeze)
        share_features(policy, self._reference)
        if checkpoint_layers:
            policy.checkpoint_layers()
        self._trainable = trainable(policy)
        # DeepSpeed's buffers are as large as it is told, however little learns: 0.8 GB for any adapters.
        learning = sum(_size(parameter) for _, parameter in self._trainable)
        self._bucket_numbers = min(zero.bucket_numbers, learning + learning % 2)  # it asks for an even number
        values: list[Tensor] = [parameter for _, parameter in self._trainable]
        # DeepSpeed has no float32 masters at stage 0, and sums gradients in the weights' format.
        self._masters = Masters([p for _, p in self._trainable]) if zero.stage == 0 else None
        if self._masters is not None:
            values = self._masters.values
        optimizer = build_optimizer(parameter_groups(policy, self._trainable, values, settings), settings)
        if zero.offload_optimizer != "none" and self._device.type == "cuda":
            from deepspeed.ops.adam import DeepSpeedCPUAdam

            optimizer = DeepSpeedCPUAdam(optimizer.param_groups, betas=settings.betas, adamw_mode=True)
        self._held = False  # whether the coming step is to update nothing
        optimizer.register_step_pre_hook(self._before_update)
        if model.unread is not None:
            if zero.stage < 3:
                raise ValueError("a model whose weights are unread is for stage 3, where no rank holds them")
            most = min(BUCKET_BYTES, zero.bucket_numbers * model.unread.dtype.itemsize)
            deepspeed.init_distributed()
            config = self._config(training=True)
            spread(policy, self._reference, model.unread, config=config, bucket_bytes=most, ranks=ranks)
        self._call_reference: Any = None
        if self._reference is not None:
            self._call_reference = _Outputs(self._reference)
            if zero.stage == 3:
                self._call_reference = deepspeed.initialize(
                    model=self._call_reference, config=self._config(training=False)
                )[0]
        self._engine = deepspeed.initialize(
            model=_Outputs(policy), optimizer=optimizer, config=self._config(training=True)
        )[0]
        if self._masters is not None:
            self._engine.enable_backward_allreduce = False
        self._shards = Shards(
            self._engine,
            stage=zero.stage,
            optimizer=optimizer,
            trainable=self._trainable,
            masters=self._masters,
            ranks=ranks,
        )
        self._copies = self._first_copies()
        self._passes = Passes(
            policy,
            tokens=micro_batch_tokens,
            pad_id=int(model.processor.tokenizer.pad_token_id),
            device=self._device,
            ranks=ranks,
            tower_once=True,
        )
        self._updates = 0
        self._pending = False  # whether there are gradients

    @property
    def policy(self) -> Policy:
        """The module being trained; at stage 3 its parameters are empty outside of `whole` and its own passes."""
        return self._model.policy

    @contextmanager
    def whole(self) -> Iterator[None]:
        """While entered, every rank holds all weights and can use the policy by itself: for sampling from it.

        At stage 3 the weights travel once and are on every rank meanwhile. All ranks enter and leave together.
        """
        if self._zero.stage < 3:
            yield
            return
        from deepspeed.runtime.zero.stage3 import unwrap_model_for_generation

        with unwrap_model_for_generation(self._engine):
            yield

    @torch.no_grad()
    def outputs(
        self,
        groups: Sequence[RolloutGroup],
        *,
        entropy: bool = False,
        disagreement: bool = False,
        reference: bool = False,
    ) -> PolicyOutputs:
        if reference and isinstance(self._rule, AdapterOff):
            with adapters_off(self.policy.model):
                return self.outputs(groups, entropy=entropy, disagreement=disagreement)
        policy = self._reference if reference else self.policy
        if policy is None:
            raise RuntimeError("reference log-probabilities asked of a backend that was built without a reference")
        module = self._call_reference if reference else self._engine

        def call(packed: PackedBatch, *, entropy: bool, compare: Tensor | None) -> PolicyOutputs:
            return self._run(module, packed, entropy=entropy, compare=compare)

        return self._passes.outputs(call, policy, groups, entropy=entropy, disagreement=disagreement)

    def begin_step(self) -> None:
        self.policy.features.begin_step()

    def micro_batches(self, groups: Sequence[RolloutGroup]) -> list[list[Part]]:
        chosen = self._passes.split(groups)
        self._passes.begin(self.policy, chosen)
        return chosen

    def forward(
        self, parts: Sequence[Part], *, entropy: bool = False, learn_entropy: bool = False
    ) -> tuple[PolicyOutputs, PackedBatch]:
        packed = self._passes.pack(parts)
        out = self._run(self._engine, packed, entropy=entropy, learn_entropy=learn_entropy)
        return without_idle(out, packed), packed

    def backward(self, loss: Float[Tensor, ""]) -> None:
        self._pending = True
        self._engine.backward(loss if self._masters is not None else loss * self._ranks.count)

    def optimizer_step(self) -> tuple[float, float]:
        self.policy.features.end_update()
        self._pending = False
        share = schedule(self._settings, self._updates)
        rate = self._settings.learning_rate * share
        set_rates(self._engine.optimizer.param_groups, share)
        norm = self._plain_step() if self._masters is not None else self._sharded_step()
        if not math.isfinite(norm):
            return norm, rate
        self._updates += 1
        if self._rule.copies:
            self._apply_rule()
        return norm, rate

    def _sharded_step(self) -> float:
        """DeepSpeed's update, which it skips where the norm of the gradient is not finite. Returns the norm."""
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def _plain_step(self) -> float:
        """The same at stage 0, where there is nothing that DeepSpeed would spread."""
        assert self._masters is not None
        self._masters.complete(self._ranks)
        norm = float(nn.utils.clip_grad_norm_(self._masters.values, self._settings.max_grad_norm))
        if math.isfinite(norm):
            self._engine.optimizer.step()
            self._masters.round()
        self._engine.optimizer.zero_grad(set_to_none=True)
        return norm

    def _before_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Without gradients AdamW does nothing: neither the weights nor its memory change."""
        if self._held:
            optimizer.zero_grad(set_to_none=True)

    def discard_gradients(self) -> None:
        self.policy.features.end_update()
        if self._masters is not None:
            self._engine.optimizer.zero_grad(set_to_none=True)
        elif self._pending:  # DeepSpeed has no other way to forget what it has reduced already than to make a step
            self._held = True
            self._engine.step()
            self._held = False
        self._pending = False

    def add_up(self, share: Tensor) -> Tensor:
        return self._ranks.add_up(share)

    def most(self, values: Sequence[float]) -> list[float]:
        return self._ranks.most(values)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        parameters = list(merging(self.policy.model))
        for bucket in gathered(parameters, lambda p: p.sources, sharded=self._zero.stage == 3):
            for parameter in bucket:
                yield parameter.name, parameter.value()

    def save_model(self, folder: Path) -> None:
        weights = self._weights_to_save()
        if self._ranks.first:
            self._model.save(folder, weights)

    def model_bytes(self) -> int:
        return sum(_size(p) * p.element_size() for p in self.policy.parameters())

    def snapshot(self) -> Callable[[Path], None] | None:
        if self._zero.stage == 3:
            return None
        weights = self._weights_to_save()
        return lambda folder: self._model.save(folder, weights)

    def state(self) -> dict[str, Any]:
        first = self._ranks.first
        named = list(self.policy.model.named_parameters())
        separate = self._dtype != torch.float32
        moments, masters = self._shards.memory(keep=first, masters=separate)
        state = {
            "updates": self._updates,
            "moments": moments,
            "masters": masters,
            "adapters": whole_tensors(
                [(n, p) for n, p in named if is_adapter(n)], keep=first, sharded=self._zero.stage == 3
            ),
            "copies": {name: self._whole_copy(name, keep=first) for name in self._copies},
            "pieces": self._shards.pieces(),
        }
        return state if first else {}

    def load_state(self, state: dict[str, Any]) -> None:
        values = {**state.get("adapters", {}), **state["masters"]}
        missing = sorted(name for name, _ in self.policy.model.named_parameters() if is_adapter(name))
        if missing != sorted(state.get("adapters", {})):
            raise ConfigError(
                "the checkpoint's adapters are not those of train.lora (other targets, parts, or none). Resume with "
                "the settings the run began with."
            )
        self._shards.load(state["moments"], values, state.get("pieces", {}))
        self._updates = state["updates"]
        for name in self._copies:
            self._load_copy(name, state["copies"][name])

    # ── inside ──

    def _copy_of_policy(self) -> Policy:
        unread = self._model.unread
        own = copy.deepcopy(self.policy) if unread is None else copy_unread(self.policy, unread)
        return own.requires_grad_(False).eval()

    def _run(
        self,
        module: Any,
        packed: PackedBatch,
        *,
        entropy: bool,
        learn_entropy: bool = False,
        compare: Tensor | None = None,
    ) -> PolicyOutputs:
        found = module(packed, entropy=entropy, learn_entropy=learn_entropy, compare=compare, agree=self._agree)
        rest = iter(found[1:])
        return PolicyOutputs(
            logprobs=found[0],
            entropy=next(rest) if entropy else None,
            disagreement=next(rest) if compare is not None else None,
        )

    def _agree(self, numbers: Sequence[int]) -> Sequence[int]:
        return [int(number) for number in self._ranks.most(numbers)]

    def _weights_to_save(self) -> SavedWeights | None:
        """On the first rank what is saved, on the processor; None on the others."""
        first, sharded, model = self._ranks.first, self._zero.stage == 3, self.policy.model
        kept: dict[str, Tensor] = {}
        for name, value in self.weights():
            if first:
                kept[name] = value.to("cpu", copy=True)
        adapters = [(n, p) for n, p in model.named_parameters() if is_adapter(n)]
        own = whole_tensors(adapters, keep=first, sharded=sharded)
        if not first:
            return None
        names = {id(p): name.replace(".base_layer.", ".") for name, p in model.named_parameters()}
        for name, parameter in model.named_parameters(remove_duplicate=False):  # tied: under all their names
            if not is_adapter(name):
                kept.setdefault(name.replace(".base_layer.", "."), kept[names[id(parameter)]])
        state = model.state_dict()
        kept |= {name: value.to("cpu", copy=True) for name, value in model.named_buffers() if name in state}
        return SavedWeights(model=kept, adapters=own)

    def _local(self, policy: Policy) -> list[Tensor]:
        """What this rank holds of every parameter."""
        return [getattr(p, "ds_tensor", p) for p in policy.parameters()]

    def _first_copies(self) -> dict[str, list[Tensor]]:
        """As `TorchBackend` keeps them, of the shards at stage 3."""
        copies = {
            name: [value.detach().to(torch.float32, copy=True) for value in self._local(self.policy)]
            for name in self._rule.copies
            if name not in (REFERENCE, PRECISE)
        }
        if self._reference is not None:
            copies[REFERENCE] = self._local(self._reference)
        if PRECISE in self._rule.copies:
            copies[PRECISE] = [value.detach().to(torch.float32) for value in copies[REFERENCE]]
        return copies

    @torch.no_grad()
    def _apply_rule(self) -> None:
        """The rule on every parameter by itself: their masters need not all be whole at one time."""
        if not self._rule.acts_after(self._updates):
            return
        for i, parameter in enumerate(self.policy.parameters()):
            value = self._shards.precise(parameter)
            before = value._version
            copies = {name: [values[i]] for name, values in self._copies.items()}
            self._rule.after_update(self._updates, [value], copies)
            if value._version != before:  # a rule may move the policy
                self._shards.adopt(parameter, value)

    def _whole_copy(self, name: str, *, keep: bool) -> dict[str, Tensor]:
        names = [parameter for parameter, _ in self.policy.model.named_parameters()]
        values = self._copies[name]
        if self._zero.stage < 3:
            return {n: v.detach() for n, v in zip(names, values, strict=True)} if keep else {}
        found: dict[str, Tensor] = {}
        for n, parameter, value in zip(names, self.policy.parameters(), values, strict=True):
            pieces = self._shards.all_pieces(value)
            if keep:
                found[n] = pieces[: _size(parameter)].view(_shape(parameter)).cpu()
        return found

    @torch.no_grad()
    def _load_copy(self, name: str, saved: dict[str, Tensor]) -> None:
        for (n, _), value in zip(self.policy.model.named_parameters(), self._copies[name], strict=True):
            if self._zero.stage < 3:
                value.copy_(saved[n])
                continue
            piece = saved[n].flatten()[value.numel() * self._ranks.rank :][: value.numel()]
            value.flatten()[: piece.numel()].copy_(piece)

    def _config(self, *, training: bool) -> dict[str, Any]:
        zero = self._zero
        cuda = self._device.type == "cuda"
        sharding: dict[str, Any] = {
            "stage": zero.stage,
            "overlap_comm": cuda,
            "contiguous_gradients": True,
            "reduce_bucket_size": self._bucket_numbers,
            "allgather_bucket_size": self._bucket_numbers,
        }
        if zero.stage == 3:
            sharding["stage3_prefetch_bucket_size"] = min(zero.bucket_numbers, 50_000_000)
            # Small weights stay whole on every rank, unless a rule moves shards, of which those would not know.
            sharding["stage3_param_persistence_threshold"] = 10_000 if training and not self._rule.moves_policy else 0
            if zero.offload_weights != "none":
                sharding["offload_param"] = {"device": zero.offload_weights, "pin_memory": cuda}
        if training and zero.offload_optimizer != "none":
            sharding["offload_optimizer"] = {"device": zero.offload_optimizer, "pin_memory": cuda}
        config: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,  # it divides nothing: losses are shares of the step's
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,
            "gradient_clipping": self._settings.max_grad_norm,
            "steps_per_print": 2**31 - 1,
            "zero_optimization": sharding,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
        }
        if self._dtype == torch.bfloat16 and zero.stage > 0:  # at stage 0 it would keep masters of masters
            config["bf16"] = {"enabled": True, "check_grad_overflow": True}
            config["data_types"] = {"grad_accum_dtype": "fp32"}
        return config


class _Outputs(nn.Module):
    """The policy as DeepSpeed can watch it: outputs in a tuple, which it looks through for its hooks."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, packed: PackedBatch, **options: Any) -> tuple[Tensor, ...]:
        # Not called but run: DeepSpeed's hooks cannot take a dataclass apart, and the policy itself has no parameters.
        out = self.policy.forward(packed, **options)
        return tuple(value for value in (out.logprobs, out.entropy, out.disagreement) if value is not None)


def check_possible(policy: Policy, settings: OptimizerSettings, zero: ZeroSettings) -> None:
    """Raise ConfigError, saying what to take instead, for what DeepSpeed cannot do with this policy."""
    if settings.optimizer == "adamw_8bit" and zero.offload_optimizer != "none":
        raise ConfigError(
            "train.optimizer adamw_8bit with backend.offload_optimizer: DeepSpeed's optimiser for offloaded memory "
            "is AdamW in 32 bits. Take one of the two: adamw with the offload, or adamw_8bit on the GPU."
        )
    if zero.offload_optimizer != "none" and zero.stage == 0:
        raise ConfigError("backend.offload_optimizer needs backend.zero_stage 1 or more: stage 0 is plain torch.")
    if zero.offload_weights != "none" and zero.stage < 3:
        raise ConfigError("backend.offload_weights needs backend.zero_stage 3: below it every rank holds the weights.")
    if zero.stage == 3 and policy.family.tower_runs_per_size:
        raise ConfigError(
            f"backend.zero_stage 3: the tower of family {policy.family.name} runs once for every size of picture, so "
            "ranks would wait for each other forever. Set backend.zero_stage: 2."
        )


def import_deepspeed(device: str) -> Any:
    """The module, told which device; ConfigError where it is not installed. device: cpu or cuda."""
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else it looks for a GPU's compiler
    try:
        import deepspeed
    except ImportError as error:
        raise ConfigError(
            "backend.type is deepspeed, which is not installed here. pip install 'mmrl[deepspeed]', or set "
            "backend.type: torch."
        ) from error
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\..*deprecated", category=FutureWarning)
    if device == "cpu":  # its shared-memory sums are compiled for a minute at the first start; gloo does them as well
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _size(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _shape(parameter: Any) -> torch.Size:
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape
