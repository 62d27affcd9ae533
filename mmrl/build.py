"""The composition root: the only place that chooses implementations. Everything below it gets plain values.

Heavy imports happen inside the functions, so that reading a config or listing commands stays quick.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.config.schema import Config
from mmrl.errors import ConfigError
from mmrl.progress import Progress
from mmrl.types import Prompt, Sample

if TYPE_CHECKING:
    from mmrl.algorithms.algorithm import Algorithm
    from mmrl.backend.deepspeed_backend import DeepSpeedBackend
    from mmrl.backend.torch_backend import TorchBackend
    from mmrl.data.fetched import Fetched
    from mmrl.evaluation.evaluate import Likelihoods, OnScored
    from mmrl.evaluation.result import EvaluationResult, EvaluationSettings
    from mmrl.policy.load import LoadedModel
    from mmrl.policy.render import Renderer
    from mmrl.ranks import Ranks
    from mmrl.rewards.runtime import RewardScorer
    from mmrl.rollout.engine import RolloutEngine, Sampling
    from mmrl.rollout.vllm_sampler import VllmSettings
    from mmrl.training.loop import Trainer
    from mmrl.training.mismatch import Correction
    from mmrl.training.parity import ParityGate
    from mmrl.training.sft import ColdStartSettings
    from mmrl.training.tracking import Tracker


def set_up_torch(config: Config) -> str:
    """Threads and seeds of this process; returns the device to use."""
    import random

    import numpy as np
    import torch

    if config.backend.threads is not None:
        torch.set_num_threads(config.backend.threads)
    torch.manual_seed(config.run.seed)
    random.seed(config.run.seed)
    np.random.seed(config.run.seed % 2**32)
    if config.backend.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "backend.device is cuda, but torch sees no GPU here. Use auto or cpu, or install a GPU build."
        )
    if config.backend.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.backend.device


def join_ranks(config: Config) -> Ranks:
    """Meet the other processes, where a launcher started several."""
    from mmrl.ranks import join

    return join(set_up_torch(config))


def load_policy(config: Config, path: str, *, to_train: bool = False) -> LoadedModel:
    """The policy at `path`, in the config's number format and on its device; in 4 bits only where it is to train."""
    import torch

    from mmrl.policy.load import load_model

    model = load_model(
        path,
        dtype=getattr(torch, config.backend.dtype),
        device=set_up_torch(config),
        trust_remote_code=config.model.trust_remote_code,
        four_bit=to_train and config.model.four_bit,
        unread=to_train and config.backend.type == "deepspeed" and config.backend.zero_stage == 3,
    )
    model.policy.kernel = config.backend.attention
    return model


def build_renderer(config: Config, model: LoadedModel, *, run_dir: Path | None = None) -> Renderer:
    """Prompts in the config's mode, pictures and clips in its limits.

    With a `run_dir`, media that cannot be used are remembered there and not tried again.
    """
    from mmrl.data.video import ClipReader
    from mmrl.data.video_plan import ClipRules
    from mmrl.policy.render import Renderer

    video = config.video
    return Renderer(
        model.processor,
        model.policy.family,
        model.policy.config,
        mode=config.prompt.mode,
        system=config.prompt.system,
        min_pixels=config.model.min_pixels,
        max_pixels=config.model.max_pixels,
        clips=ClipReader(deadline_seconds=video.deadline_seconds, memory_bytes=int(video.memory_gib * 2**30)),
        rules=ClipRules(
            fps=video.fps,
            min_frames=video.min_frames,
            max_frames=video.max_frames,
            min_pixels=video.min_pixels,
            max_pixels=video.max_pixels,
            total_pixels=video.total_pixels,
        ),
        quarantine=run_dir / "quarantine.jsonl" if run_dir is not None else None,
    )


def fetch_addresses(config: Config, samples: Sequence[Sample], *, record: Path, progress: Progress) -> Fetched:
    """The files of the samples' media that are addresses, as `data.urls` allows. `record`: what the run fetched."""
    from mmrl.data.fetch import Fetcher, FetchLimits
    from mmrl.data.fetched import MediaCache, fetch_media

    urls = config.data.urls
    limits = FetchLimits(
        hosts=urls.hosts,
        max_bytes=int(urls.max_mib * 2**20),
        deadline_seconds=urls.deadline_seconds,
        max_redirects=urls.max_redirects,
        attempts=urls.attempts,
    )
    return fetch_media(
        samples,
        fetcher=Fetcher(limits),
        cache=MediaCache(Path(urls.folder)),
        record=record,
        at_once=urls.at_once,
        progress=progress,
    )


def build_engine(config: Config, model: LoadedModel, *, rests: bool = True) -> RolloutEngine:
    """The engine `rollout.engine` names, sampling from this very model or, vLLM, from a copy of its weights.

    `rests`: it can give the GPU back between uses, which a process that holds several vLLMs must do without. To be
    closed after use (`close_engine`). Raises ConfigError where vLLM is wanted and not installed.
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
        from mmrl.rollout.server_client import Client, started_here
        from mmrl.rollout.vllm_server_engine import ServerSettings, VllmServerEngine

        servers = config.rollout.servers
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


def check_trackers_are_installed(config: Config) -> None:
    """Raises ConfigError where `tracking.to` names one that is not there."""
    from mmrl.training.tracking import chosen

    chosen(config.tracking.to)


def close_engine(engine: RolloutEngine) -> None:
    """End what the engine holds besides the model."""
    from mmrl.rollout.engine import Closes

    if isinstance(engine, Closes):
        engine.close()


@contextmanager
def open_engine(config: Config, model: LoadedModel) -> Iterator[RolloutEngine]:
    """`build_engine`, closed at the end."""
    engine = build_engine(config, model)
    try:
        yield engine
    finally:
        close_engine(engine)


def build_scorer(config: Config, samples: Sequence[Sample]) -> RewardScorer:
    """The reward sets, checked on the first samples they will score."""
    from mmrl.rewards.build import reward_uses
    from mmrl.rewards.runtime import RewardScorer

    plain = {task: [use.model_dump(exclude_none=True) for use in uses] for task, uses in config.rewards.items()}
    scoring = config.scoring
    scorer = RewardScorer(
        reward_uses(plain),
        workers=scoring.workers,
        frames="mmrl.data.pictures:pictures_of",
        memory_gib=scoring.memory_gib,
        stop_after_failures=scoring.stop_after_failures,
    )
    try:
        scorer.check(samples)
    except BaseException:
        scorer.close()
        raise
    return scorer


def add_configured_adapters(config: Config, model: LoadedModel) -> None:
    """What `train.lora` says, for RL and cold start alike; nothing without it."""
    from mmrl.policy.adapters import add_adapters

    if config.train.lora is not None:
        add_adapters(model.policy, **config.train.lora.model_dump(), seed=config.run.seed)


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
    if config.backend.type == "torch":
        return TorchBackend(model, settings, **options)
    join_nobody(options["device"])
    zero = ZeroSettings(
        stage=config.backend.zero_stage,
        offload_optimizer=config.backend.offload_optimizer,
        offload_weights=config.backend.offload_weights,
    )
    return DeepSpeedBackend(model, settings, zero, **options)


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


def cold_start_settings(config: Config) -> ColdStartSettings:
    """What `sft` says, for the cold start."""
    from mmrl.training.sft import ColdStartSettings

    assert config.sft is not None
    return ColdStartSettings(
        steps=config.sft.steps,
        samples=config.sft.samples,
        samples_per_step=config.sft.samples_per_step,
        thoughts=config.sft.thoughts,
        mode=config.prompt.mode,
        seed=config.run.seed,
        preference_beta=None if config.sft.preference is None else config.sft.preference.beta,
    )


def evaluation_settings(config: Config, *, sampled: bool = True) -> EvaluationSettings:
    """What `evaluation` says; greedy answers alone, without the sampled pass, for the quick look during training."""
    from mmrl.evaluation.result import EvaluationSettings

    evaluation = config.evaluation
    return EvaluationSettings(
        samples_per_prompt=evaluation.samples_per_prompt if sampled else 0,
        ks=evaluation.ks if sampled else (),
        max_tokens=config.rollout.max_tokens,
        decoding=evaluation.decoding if sampled else "greedy",
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
        top_k=evaluation.top_k,
        stop=config.rollout.stop,
        seeds=evaluation.seeds if sampled else 1,
        slice_by=evaluation.slice_by,
        batch_prompts=evaluation.batch_prompts,
        seed=config.run.seed,
    )


def evaluate_policy(
    config: Config,
    model: LoadedModel,
    samples: Sequence[Sample],
    *,
    scorer: RewardScorer,
    renderer: Renderer,
    sampled: bool,
    progress: Progress,
    ranks: Ranks | None = None,
) -> EvaluationResult:
    """A model's evaluation on samples with the config's rewards, by an engine of its own."""
    with open_engine(config, model) as engine:
        return evaluate_with(
            config, engine, samples, scorer=scorer, renderer=renderer, sampled=sampled, progress=progress, ranks=ranks
        )


def evaluate_with(
    config: Config,
    engine: RolloutEngine,
    samples: Sequence[Sample],
    *,
    scorer: RewardScorer,
    renderer: Renderer,
    sampled: bool,
    progress: Progress,
    ranks: Ranks | None = None,
    likelihoods: Likelihoods | None = None,
    on_scored: OnScored = lambda groups, dropped: None,
    facts: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """The evaluation of the weights that an engine samples from. Several ranks share the samples."""
    from mmrl.evaluation.evaluate import evaluate, tagged_answer
    from mmrl.policy.forms import FORMS
    from mmrl.ranks import ALONE

    tag = FORMS[config.prompt.mode].answer_tag
    return evaluate(
        samples[: config.evaluation.limit],
        render=renderer.render,
        prepare=renderer.prepare,
        engine=engine,
        scorer=scorer,
        settings=evaluation_settings(config, sampled=sampled),
        answer_of=lambda text: tagged_answer(text, tag),
        answer_tag=tag,
        likelihoods=likelihoods,
        on_scored=on_scored,
        facts=facts,
        progress=progress,
        ranks=ranks or ALONE,
    )


def build_trainer(
    config: Config,
    *,
    run_dir: Path,
    model: LoadedModel,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    scorer: RewardScorer,
    progress: Progress,
    ranks: Ranks | None = None,
) -> Trainer:
    """Everything the RL stage works with. `ranks`: None is alone."""
    from mmrl.algorithms.build import build_algorithm
    from mmrl.algorithms.memory import Memory
    from mmrl.backend.torch_backend import TorchBackend
    from mmrl.curriculum.build import build_sampler
    from mmrl.evaluation.summary import evaluation_metrics
    from mmrl.policy.forms import target_text
    from mmrl.policy.masking import black_patch, blackened
    from mmrl.progress import SilentProgress
    from mmrl.ranks import ALONE
    from mmrl.training.loop import LoopSettings, Trainer
    from mmrl.training.planned import Author
    from mmrl.training.saver import Keep
    from mmrl.training.watched_files import WatchedFiles
    from mmrl.training.watcher import WatchSettings

    together = ranks or ALONE
    algorithm = build_algorithm(config.algorithm)
    renderer = build_renderer(config, model, run_dir=run_dir)
    settings = config.train
    updates = settings.steps * settings.minibatches
    best = settings.keep_best
    keep = Keep(
        last=settings.keep_checkpoints,
        best=None if best is None else best.metric,
        best_is="highest" if best is None else best.best,
    )
    correction = build_correction(config)
    if correction is not None and algorithm.couplings:
        progress.note(
            f"rollout.correction weighs the surrogate's tokens; the losses of algorithm {algorithm.name} that compare "
            "rollouts (couplings) are not corrected"
        )
    add_configured_adapters(config, model)
    engine = build_engine(config, model)
    backend = build_backend(
        config,
        model,
        steps=updates,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        schedule=settings.schedule,
        algorithm=algorithm,
        ranks=ranks,
    )
    # An engine that samples from the trained module itself needs it whole; any other has weights of its own.
    own_module = config.rollout.engine == "transformers"
    sampling_within = backend.whole if own_module and not isinstance(backend, TorchBackend) else nullcontext

    def evaluate() -> dict[str, float]:
        with sampling_within():
            result = evaluate_with(
                config,
                engine,
                validation,
                scorer=scorer,
                renderer=renderer,
                sampled=False,
                progress=SilentProgress(),
                ranks=ranks,
            )
        return evaluation_metrics(result)

    def decode(token_ids: Sequence[int]) -> str:
        tokenizer = model.processor.tokenizer
        return str(tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def encode(text: str) -> tuple[int, ...]:
        tokenizer = model.processor.tokenizer
        return (*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id)

    def write(prompt: Prompt, thought: str) -> str:
        return target_text(prompt.sample, config.prompt.mode, thought)

    black = black_patch(model.processor) if algorithm.masked_fraction else None

    def blacken(prompt: Prompt, fraction: float, seed: int) -> Prompt:
        return prompt if black is None else blackened(prompt, fraction=fraction, seed=seed, black=black)

    return Trainer(
        run_dir=run_dir,
        settings=LoopSettings(
            steps=settings.steps,
            prompts_per_step=config.rollout.prompts_per_step,
            max_refills=config.rollout.max_refills,
            minibatches=settings.minibatches,
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=keep,
            checkpoints_beside=settings.checkpoints_beside,
            evaluate_every=config.evaluation.every if validation else 0,
            ahead=config.rollout.ahead,
            stop_after_skipped=settings.stop_after_skipped,
        ),
        sampling=build_sampling(config),
        algorithm=algorithm,
        sampler=build_sampler(config.train.sampler, train, seed=config.run.seed),
        renderer=WatchedFiles(renderer, progress.note),
        engine=engine,
        scorer=scorer,
        backend=backend,
        sampling_within=sampling_within,
        correction=correction,
        gate=build_gate(config, train),
        ranks=together,
        decode=decode,
        author=Author(write=write, encode=encode),
        blacken=blacken,
        memory=Memory(),
        evaluate=evaluate,
        watch=WatchSettings(**config.watch.model_dump()),
        progress=progress,
        trackers=build_trackers(config, run_dir) if together.first else [],
    )


def build_trackers(config: Config, run_dir: Path) -> list[Tracker]:
    """Where metrics go besides metrics.jsonl."""
    from mmrl.training.tracking import TrackedRun, trackers

    run = TrackedRun(
        run_dir=run_dir,
        project=config.tracking.project,
        name=config.run.name,
        settings=config.model_dump(mode="json"),
    )
    return trackers(config.tracking.to, run)
