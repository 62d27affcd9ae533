"""The rollout engine, and how training rollouts are drawn from it, corrected and checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.config.schema import Config
from mmrl.errors import ConfigError
from mmrl.types import Sample

if TYPE_CHECKING:
    from mmrl.policy.load import LoadedModel
    from mmrl.ranks import Ranks
    from mmrl.rollout.engine import RolloutEngine, Sampling
    from mmrl.rollout.vllm_sampler import VllmSettings
    from mmrl.training.mismatch import Correction
    from mmrl.training.parity import ParityGate


def build_engine(
    config: Config, model: LoadedModel, *, rests: bool = True, ranks: Ranks | None = None
) -> RolloutEngine:
    """The engine `rollout.engine` names, sampling from this very model or, vLLM, from a copy of its weights.

    `rests`: it can give the GPU back between uses, which a process that holds several vLLMs must do without. `ranks`:
    those that each make one; None is alone. To be closed after use (`close_engine`). Raises ConfigError where vLLM is
    wanted and not installed, or servers do not suffice for the ranks.
    """
    check_engine_is_installed(config)
    from mmrl.policy.adapters import merged_weights

    device = str(next(model.policy.parameters()).device)
    tokenizer, seed = model.processor.tokenizer, config.run.seed
    if config.rollout.engine == "transformers":
        from mmrl.rollout.transformers_engine import TransformersEngine

        return TransformersEngine(model.policy, tokenizer, run_seed=seed, device=device)
    settings = _vllm_settings(config, device, rests=rests)
    engine: RolloutEngine
    if config.rollout.engine == "vllm":
        from mmrl.rollout.vllm_engine import VllmEngine, start_sampler

        sampler = start_sampler(model.policy, model.processor, settings)
        engine = VllmEngine(model.policy, tokenizer, run_seed=seed, sampler=sampler)
    else:
        from mmrl.build.servers import own_servers
        from mmrl.ranks import ALONE
        from mmrl.rollout.server_client import Client, started_here
        from mmrl.rollout.vllm_server_engine import ServerSettings, VllmServerEngine

        servers = own_servers(config.rollout.servers, ranks or ALONE)
        if servers.folder is not None:
            Path(servers.folder).mkdir(parents=True, exist_ok=True)
        engine = VllmServerEngine(
            model.policy,
            model.processor,
            started_here(servers.start) if servers.start is not None else [Client(url) for url in servers.urls],
            run_seed=seed,
            vllm=settings,
            settings=ServerSettings(
                sync=servers.sync,
                folder=Path(servers.folder) if servers.folder is not None else None,
                address=servers.address,
                start_seconds=servers.start_seconds,
                generate_seconds=servers.generate_seconds,
                sync_seconds=servers.sync_seconds,
                retry_seconds=servers.retry_seconds,
                gpus=servers.gpus,
            ),
        )
    if model.unread is not None:
        return engine  # the loop gives it the weights, once a backend has read them
    try:
        engine.load_weights(merged_weights(model.policy.model), version=0)
    except BaseException:
        close_engine(engine)
        raise
    return engine


def _vllm_settings(config: Config, device: str, *, rests: bool) -> VllmSettings:
    from mmrl.rollout.vllm_sampler import VllmSettings

    vllm = config.rollout.vllm
    return VllmSettings(
        dtype=vllm.dtype or config.backend.dtype,
        device=device.partition(":")[0],
        threads=config.backend.threads,
        max_model_len=vllm.max_model_len,
        max_sequences=vllm.max_sequences,
        memory_share=vllm.memory_share,
        cache_gib=vllm.cache_gib,
        eager=vllm.eager,
        sleeps=rests and config.rollout.engine == "vllm" and device.startswith("cuda"),
    )


def check_engine_is_installed(config: Config) -> None:
    """Raises ConfigError where `rollout.engine` needs vLLM on this machine and it is not there."""
    from importlib.util import find_spec

    from mmrl.rollout.vllm_sampler import INSTALL

    rollout = config.rollout
    here = rollout.engine == "vllm" or (rollout.engine == "vllm_server" and rollout.servers.start is not None)
    if here and find_spec("vllm") is None:
        raise ConfigError(INSTALL)


def close_engine(engine: RolloutEngine) -> None:
    """End what the engine holds besides the model."""
    from mmrl.rollout.engine import Closes

    if isinstance(engine, Closes):
        engine.close()


@contextmanager
def open_engine(config: Config, model: LoadedModel, *, ranks: Ranks | None = None) -> Iterator[RolloutEngine]:
    """`build_engine`, closed at the end."""
    engine = build_engine(config, model, ranks=ranks)
    try:
        yield engine
    finally:
        close_engine(engine)


def build_sampling(config: Config) -> Sampling:
    """How training rollouts are drawn."""
    from mmrl.rollout.engine import Sampling

    rollout = config.rollout
    return Sampling(
        group_size=rollout.group_size,
        max_tokens=rollout.max_tokens,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        stop=rollout.stop,
    )


def build_correction(config: Config) -> Correction | None:
    """What `rollout.correction` says; None where nothing is corrected."""
    from mmrl.training.mismatch import Masked, Truncated

    correction = config.rollout.correction
    own_module = config.rollout.engine == "transformers"  # the policy that is trained, in step with it
    if correction.kind == "none" or (correction.kind == "auto" and own_module):
        return None
    if correction.kind == "masked":
        return Masked(floor=correction.floor, cap=correction.cap)
    return Truncated(cap=correction.cap)


def build_gate(config: Config, samples: Sequence[Sample]) -> ParityGate | None:
    """What is asked of the engine before the first step; None where it is the trained policy itself."""
    from mmrl.training.parity import ParityGate

    rollout, backend = config.rollout, config.backend
    threshold = rollout.parity_threshold
    if threshold is None:
        narrow = "bfloat16" in (backend.dtype, rollout.vllm.dtype) or config.model.four_bit
        threshold = 0.05 if narrow else 0.001
    if rollout.engine == "transformers" or math.isinf(threshold):
        return None
    return ParityGate(engine=rollout.engine, samples=samples, sampling=build_sampling(config), threshold=threshold)
