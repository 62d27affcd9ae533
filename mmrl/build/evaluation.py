"""Evaluation as the config says, by an engine of its own or a given one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmrl.build.engine import open_engine
from mmrl.config.schema import Config
from mmrl.progress import Progress
from mmrl.types import Sample

if TYPE_CHECKING:
    from mmrl.evaluation.evaluate import Likelihoods, OnScored
    from mmrl.evaluation.result import EvaluationResult, EvaluationSettings
    from mmrl.policy.load import LoadedModel
    from mmrl.policy.render import Renderer
    from mmrl.ranks import Ranks
    from mmrl.rewards.runtime import RewardScorer
    from mmrl.rollout.engine import RolloutEngine


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
    with open_engine(config, model, ranks=ranks) as engine:
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
    tell: Callable[[str], None] | None = None,
    ranks: Ranks | None = None,
    likelihoods: Likelihoods | None = None,
    on_scored: OnScored = lambda groups, dropped: None,
    facts: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """The evaluation of the weights that an engine samples from. Several ranks share the samples.

    `tell`: of what happens to the engine; None: `progress`.
    """
    from mmrl.evaluation.evaluate import evaluate
    from mmrl.policy.forms import FORMS
    from mmrl.ranks import ALONE

    return evaluate(
        samples[: config.evaluation.limit],
        render=renderer.render,
        prepare=renderer.prepare,
        engine=engine,
        scorer=scorer,
        settings=evaluation_settings(config, sampled=sampled),
        answer_tag=FORMS[config.prompt.mode].answer_tag,
        likelihoods=likelihoods,
        on_scored=on_scored,
        facts=facts,
        progress=progress,
        tell=tell,
        ranks=ranks or ALONE,
    )
