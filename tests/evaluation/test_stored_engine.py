"""Nothing is generated twice: completions on disk by content, evaluations that go on where they were killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mmrl.evaluation.completion_store import CompletionStore
from mmrl.evaluation.evaluate import evaluate
from mmrl.evaluation.result import EvaluationResult, EvaluationSettings
from mmrl.evaluation.stored_engine import StoredEngine
from mmrl.progress import SilentProgress
from mmrl.rollout.engine import Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.types import Dropped, Prompt, RolloutGroup, Sample
from tests.traces.fakes import ChoiceScorer, choice_sample

SETTINGS = EvaluationSettings(samples_per_prompt=4, ks=(1, 4), max_tokens=60, batch_prompts=2, resamples=50)
SAMPLES = [choice_sample(f"s{i}") for i in range(5)]


def render(samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
    """A prompt whose tokens are its question's: samples with the same question show the model the same."""
    return [
        Prompt(sample=sample, text=sample.question, token_ids=tuple(f"{sample.id}{sample.question}".encode()))
        for sample in samples
    ], []


def script(sample: Sample, index: int) -> str:
    return f"<think>{sample.id} {index}</think><answer>{'AB'[index % 2]}</answer>"


class Counting(ScriptedEngine):
    """Counts what it was asked for; ends the world after so many calls."""

    def __init__(self, calls: int = 10**9) -> None:
        super().__init__(script)
        self.calls = calls
        self.written = 0

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        groups = super().generate(prompts, sampling, step=step, sizes=sizes)
        self.written += sum(len(group.rollouts) for group in groups)
        return groups


class Losing(Counting):
    """Behind it is a server that is lost at every call."""

    def take_notices(self) -> list[str]:
        return ["a rollout server is left out"]


class Noting(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(
    folder: Path, inner: Counting, settings: EvaluationSettings = SETTINGS, samples: Sequence[Sample] = SAMPLES
) -> EvaluationResult:
    engine = StoredEngine(lambda: inner, CompletionStore(folder, model_key="a" * 64), run_seed=0)
    return evaluate(samples, render=render, engine=engine, scorer=ChoiceScorer(), settings=settings)


def test_a_second_evaluation_generates_nothing_and_finds_the_same(tmp_path: Path) -> None:
    plain = evaluate(SAMPLES, render=render, engine=Counting(), scorer=ChoiceScorer(), settings=SETTINGS)
    first, second = Counting(), Counting()
    assert run(tmp_path, first) == plain
    assert first.written == 5 * (1 + 4)
    assert run(tmp_path, second) == plain
    assert second.written == 0


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    killed, resumed = Counting(calls=3), Counting()  # two passes of the first batch, one of the second
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, killed)
    result = run(tmp_path, resumed)
    assert killed.written == 2 * 5 + 2
    assert killed.written + resumed.written == 25
    assert result == run(tmp_path / "other", Counting())


def test_a_line_cut_off_by_a_kill_is_generated_again(tmp_path: Path) -> None:
    run(tmp_path, Counting())
    (file,) = (tmp_path / ("a" * 16)).glob("*.jsonl")
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex(b"token_ids")])  # in the middle of the last line
    again = Counting()
    assert run(tmp_path, again) == run(tmp_path / "other", Counting())
    assert again.written == 1


def test_more_samples_and_more_completions_cost_what_is_new(tmp_path: Path) -> None:
    run(tmp_path, Counting(), samples=SAMPLES[:3])
    longer, wider = Counting(), Counting()
    run(tmp_path, longer)
    assert longer.written == 2 * 5
    wide = replace(SETTINGS, samples_per_prompt=6, ks=(1, 6))
    result = run(tmp_path, wider, wide)
    assert wider.written == 5 * 2  # the fifth and sixth of each, and no greedy one
    assert result == evaluate(SAMPLES, render=render, engine=Counting(), scorer=ChoiceScorer(), settings=wide)


@pytest.mark.parametrize(
    "changed",
    [{"temperature": 0.5}, {"top_p": 0.9}, {"top_k": 5}, {"max_tokens": 50}, {"stop": ("x",)}],
)
def test_other_sampling_is_another_completion(tmp_path: Path, changed: dict[str, object]) -> None:
    run(tmp_path, Counting())
    again = Counting()
    run(tmp_path, again, replace(SETTINGS, **changed))  # type: ignore[arg-type]
    greedy_differs = set(changed) & {"max_tokens", "stop"}
    assert again.written == (25 if greedy_differs else 20)  # greedily temperature and its like decide nothing


def test_another_model_has_completions_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, Counting())
    inner = Counting()
    engine = StoredEngine(lambda: inner, CompletionStore(tmp_path, model_key="b" * 64), run_seed=0)
    evaluate(SAMPLES, render=render, engine=engine, scorer=ChoiceScorer(), settings=SETTINGS)
    assert inner.written == 25


def test_the_same_prompt_under_two_names_is_asked_greedily_once(tmp_path: Path) -> None:
    twins = [choice_sample("one"), choice_sample("two")]

    def same(samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        return [Prompt(sample=sample, text="q", token_ids=(1, 2)) for sample in samples], []

    inner = Counting()
    engine = StoredEngine(lambda: inner, CompletionStore(tmp_path, model_key="c" * 64), run_seed=0)
    greedy = EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=60)
    result = evaluate(twins, render=same, engine=engine, scorer=ChoiceScorer(), settings=greedy)
    assert inner.written == 1
    assert result.rows[0].text == result.rows[1].text


def test_the_engine_is_not_started_where_everything_is_known(tmp_path: Path) -> None:
    run(tmp_path, Counting())

    def start() -> ScriptedEngine:
        raise AssertionError("nothing is missing")

    engine = StoredEngine(start, CompletionStore(tmp_path, model_key="a" * 64), run_seed=0)
    evaluate(SAMPLES, render=render, engine=engine, scorer=ChoiceScorer(), settings=SETTINGS)
    assert (engine.generated, engine.found) == (0, 25)
    engine.close()


def test_what_happens_to_the_engine_is_told_batch_by_batch(tmp_path: Path) -> None:
    progress = Noting()
    engine = StoredEngine(Losing, CompletionStore(tmp_path, model_key="a" * 64), run_seed=0)
    assert engine.take_notices() == []  # nothing has been asked
    evaluate(SAMPLES, render=render, engine=engine, scorer=ChoiceScorer(), settings=SETTINGS, progress=progress)
    assert progress.notes == ["a rollout server is left out"] * 3
    evaluate(SAMPLES, render=render, engine=Losing(), scorer=ChoiceScorer(), settings=SETTINGS, tell=progress.note)
    assert len(progress.notes) == 6
