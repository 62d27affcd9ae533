"""What a training stage works with: the trainer of the RL stage, the settings of the cold start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.build.backend import build_backend
from mmrl.build.engine import build_correction, build_engine, build_gate, build_sampling
from mmrl.build.evaluation import evaluate_with
from mmrl.build.media import build_renderer
from mmrl.build.policy import add_configured_adapters
from mmrl.config.schema import Config
from mmrl.progress import Progress
from mmrl.types import Prompt, Sample

if TYPE_CHECKING:
    from mmrl.policy.load import LoadedModel
    from mmrl.ranks import Ranks
    from mmrl.rewards.runtime import RewardScorer
    from mmrl.training.loop import Trainer
    from mmrl.training.sft import ColdStartSettings
    from mmrl.training.tracking import Tracker


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
    engine = build_engine(config, model, ranks=ranks)
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
                tell=progress.note,
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


def check_trackers_are_installed(config: Config) -> None:
    """Raises ConfigError where `tracking.to` names one that is not there."""
    from mmrl.training.tracking import chosen

    chosen(config.tracking.to)
