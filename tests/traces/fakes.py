"""Scored groups as training makes them, from the scripted engine and a small scorer."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mmrl.rollout.engine import Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.types import Answer, Dropped, Media, Prompt, RewardResult, RolloutGroup, Sample, ScoredGroup

Script = Callable[[Sample, int], str]


def choice_sample(name: str, *, gold: str = "B", task: str = "choice", picture: Path | None = None) -> Sample:
    return Sample(
        id=name,
        task=task,
        question="Which digit is written here?",
        answer=Answer(type="choice", value=gold),
        choices=("seven", "three"),
        media=(Media(type="image", path=str(picture)),) if picture else (),
    )


def prompt_of(sample: Sample) -> Prompt:
    return Prompt(sample=sample, text=f"user: {sample.question}", token_ids=(1, 2, 3))


def render(samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
    """Every sample but those whose id says that they are broken."""
    broken = [sample for sample in samples if "broken" in sample.id]
    drops = [Dropped(sample_id=sample.id, stage="media", reason="truncated image") for sample in broken]
    return [prompt_of(sample) for sample in samples if sample not in broken], drops


class ChoiceScorer:
    """Accuracy: the text ends with the gold letter. Format: it has an answer tag. Groups named so are dropped."""

    def score(self, groups: Sequence[RolloutGroup]) -> tuple[list[ScoredGroup], list[Dropped]]:
        unscorable = [group for group in groups if "unscorable" in group.prompt.sample.id]
        drops = [
            Dropped(sample_id=group.prompt.sample.id, stage="reward", reason="answer of another type")
            for group in unscorable
        ]
        return [scored(group) for group in groups if group not in unscorable], drops


def scored(group: RolloutGroup) -> ScoredGroup:
    texts = [rollout.completion.text for rollout in group.rollouts]
    letters = [text.removesuffix("</answer>").removesuffix("</a").strip()[-1:] for text in texts]
    accuracy = tuple(float(letter == group.prompt.sample.answer.value) for letter in letters)
    form = tuple(float("<answer>" in text) for text in texts)
    return ScoredGroup(
        group=group,
        results=tuple(
            {
                "choice": RewardResult(value=a, weight=1.0, details={"read": letter}, seconds=0.001),
                "format": RewardResult(value=f, weight=0.5),
            }
            for a, f, letter in zip(accuracy, form, letters, strict=True)
        ),
        totals=tuple(a + 0.5 * f for a, f in zip(accuracy, form, strict=True)),
        accuracy=accuracy,
        format=form,
    )


def scored_group(sample: Sample, texts: Sequence[str], *, step: int = 0, max_tokens: int = 400) -> ScoredGroup:
    """The group in which the policy wrote these texts."""
    engine = ScriptedEngine(lambda _, index: texts[index])
    sampling = Sampling(group_size=len(texts), max_tokens=max_tokens)
    return scored(engine.generate([prompt_of(sample)], sampling, step=step)[0])
