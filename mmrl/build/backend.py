"""The backend of one training stage: its optimiser, reference policy and ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmrl.config.schema import BackendConfig, Config

if TYPE_CHECKING:
    from mmrl.algorithms.algorithm import Algorithm
    from mmrl.backend.deepspeed_backend import DeepSpeedBackend
    from mmrl.backend.torch_backend import TorchBackend
    from mmrl.policy.load import LoadedModel
    from mmrl.ranks import Ranks


def saves_memory(backend: BackendConfig) -> bool:
    """Whether layers are computed again, or their weights gathered for the moment: memory for time."""
    return backend.gradient_checkpointing or (backend.type == "deepspeed" and backend.zero_stage == 3)


def build_backend(
    config: Config,
    model: LoadedModel,
    *,
    steps: int,
    learning_rate: float,
    warmup_steps: int,
    schedule: str,
    algorithm: Algorithm | None = None,
    ranks: Ranks | None = None,
) -> TorchBackend | DeepSpeedBackend:
    """The backend for one stage: the cold start has no algorithm and so no reference policy. `ranks`: None is alone."""
    from mmrl.algorithms.reference import AdapterOff, FrozenReference, NoReference
    from mmrl.backend.backend import OptimizerSettings
    from mmrl.backend.deepspeed_backend import DeepSpeedBackend, ZeroSettings
    from mmrl.backend.torch_backend import TorchBackend
    from mmrl.memory import return_large_blocks
    from mmrl.policy.adapters import has_adapters
    from mmrl.ranks import ALONE, join_nobody

    rates = config.train.part_learning_rates.model_dump(exclude_none=True)
    settings = OptimizerSettings(
        learning_rate=learning_rate,
        part_learning_rates={part: rate * learning_rate / config.train.learning_rate for part, rate in rates.items()},
        optimizer=config.train.optimizer,
        steps=steps,
        warmup_steps=warmup_steps,
        schedule=schedule,  # type: ignore[arg-type]  # the config's Literal
        final_fraction=config.train.final_learning_rate_fraction,
        weight_decay=config.train.weight_decay,
        betas=config.train.betas,
        max_grad_norm=config.train.max_grad_norm,
    )
    reference = NoReference() if algorithm is None else algorithm.reference_rule
    if isinstance(reference, FrozenReference) and has_adapters(model.policy.model):
        reference = AdapterOff()  # the same policy, without a copy
    options: dict[str, Any] = {
        "ranks": ranks or ALONE,
        "reference": reference,
        "freeze": config.train.freeze,
        "micro_batch_tokens": config.train.micro_batch_tokens,
        "checkpoint_layers": config.backend.gradient_checkpointing,
        "device": next(model.policy.parameters()).device.type,
    }
    if saves_memory(config.backend) and options["device"] == "cpu":
        # What comes and goes layer by layer leaves holes among what is kept: a quarter more memory than tensors take,
        # or, where blocks go back at once, a sixth more time. Who chose this wants memory.
        return_large_blocks()
    if config.backend.type == "torch":
        return TorchBackend(model, settings, **options)
    join_nobody(options["device"])
    zero = ZeroSettings(
        stage=config.backend.zero_stage,
        offload_optimizer=config.backend.offload_optimizer,
        offload_weights=config.backend.offload_weights,
    )
    return DeepSpeedBackend(model, settings, zero, **options)
