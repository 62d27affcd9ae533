"""The engines, sampling from a tiny model: do they start, and do they say of their tokens what the plain model says?"""

from __future__ import annotations

import time
from collections.abc import Callable

from mmrl.doctor.finding import Asked, Finding, Verdict
from mmrl.doctor.tiny import Tried, device_of, distance, tolerance, tried
from mmrl.policy.adapters import merged_weights
from mmrl.rollout.engine import Closes, RolloutEngine, Sampling
from mmrl.rollout.server_client import started_here
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.rollout.vllm_engine import VllmEngine, start_sampler
from mmrl.rollout.vllm_sampler import INSTALL, VllmSettings
from mmrl.rollout.vllm_server_engine import ServerSettings, VllmServerEngine

SAMPLING = Sampling(group_size=4, max_tokens=12)
MAX_MODEL_LEN = 512
CACHE_GIB = 0.25
GPU_SHARE = 0.15  # two may start at a time


def look(part: str, asked: Asked) -> Finding:
    """`part`: "engine NAME"."""
    from importlib.util import find_spec

    name = part.removeprefix("engine ")
    if name != "transformers" and find_spec("vllm") is None:
        return Finding(
            check=part,
            verdict=Verdict.SKIPPED,
            detail="vLLM is not installed",
            advice=INSTALL.removeprefix("rollout.engine needs vLLM, which is not installed. "),
        )
    device = device_of(asked.device)
    case = tried()
    began = time.perf_counter()
    engine = ENGINES[name](case, device)
    started = time.perf_counter() - began
    try:
        began = time.perf_counter()
        groups = engine.generate(list(case.prompts), SAMPLING, step=0)
        seconds = time.perf_counter() - began
    finally:
        if isinstance(engine, Closes):
            engine.close()
    off = distance(groups, case.model)
    tokens = sum(len(rollout.token_ids) for group in groups for rollout in group.rollouts)
    fine = off <= tolerance(device)
    start = f"started in {started:.1f} s, " if started > 1 else ""
    return Finding(
        check=part,
        verdict=Verdict.OK if fine else Verdict.FAILED,
        detail=f"{device}: {start}{tokens} tokens in {seconds:.2f} s, log-probabilities {off:.1e} nats from the "
        "plain model",
        advice=""
        if fine
        else f"more than {tolerance(device):g}: it samples from another model than the one that would train; take "
        "rollout.engine transformers, or the tested versions (constraints.txt)",
        figures={"logprob_difference_nats": off, "start_seconds": started, "generate_seconds": seconds},
    )


def _transformers(case: Tried, device: str) -> RolloutEngine:
    model = case.on(device)
    return TransformersEngine(model.policy, model.processor.tokenizer, run_seed=0, device=device)


def _vllm(case: Tried, device: str) -> RolloutEngine:
    model = case.on(device)
    sampler = start_sampler(model.policy, model.processor, _settings(device))
    engine = VllmEngine(model.policy, model.processor.tokenizer, run_seed=0, sampler=sampler)
    engine.load_weights(merged_weights(model.policy.model), version=0)
    return engine


def _vllm_server(case: Tried, device: str) -> RolloutEngine:
    model = case.on(device)
    engine = VllmServerEngine(
        model.policy,
        model.processor,
        started_here(1),
        run_seed=0,
        vllm=_settings(device),
        settings=ServerSettings(start_seconds=120, generate_seconds=60, sync_seconds=60),
    )
    try:
        engine.load_weights(merged_weights(model.policy.model), version=0)
    except BaseException:
        engine.close()
        raise
    return engine


def _settings(device: str) -> VllmSettings:
    return VllmSettings(
        device=device,
        threads=1 if device == "cpu" else None,
        max_model_len=MAX_MODEL_LEN,
        max_sequences=16,
        memory_share=GPU_SHARE,
        cache_gib=CACHE_GIB,
        eager=True,
    )


ENGINES: dict[str, Callable[[Tried, str], RolloutEngine]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "vllm_server": _vllm_server,
}
