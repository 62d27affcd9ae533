"""Every generated recipe: its gold answers win, wrong ones do not, and neither habit nor the text alone gets far."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmrl.curation.media_index import Examination
from mmrl.curation.validate import validate_rows
from mmrl.data.manifest import validate_manifest
from mmrl.data.media_paths import media_paths
from mmrl.data.recipe import build_recipe
from mmrl.data.recipe_file import load_recipe
from mmrl.rewards.build import reward_uses
from mmrl.rewards.gold import gold_completion
from mmrl.rewards.hacks import wrong_completion
from mmrl.rewards.runtime import RewardUse
from mmrl.types import Completion, Sample
from tests.data_recipes.built import DEAR, LARGE, SPLITS, built, generated_recipes, samples

RECIPES = generated_recipes()
QUICK_FIRST = [pytest.param(name, marks=[pytest.mark.slow] if name in DEAR else []) for name in RECIPES]
TINY = ["n_train=6", "n_validation=2", "n_test=2", "n_test_hard=4"]


def accuracy(completion: Completion, sample: Sample, sets: dict[str, tuple[RewardUse, ...]]) -> float:
    """Mean value of the accuracy rewards of the sample's task."""
    uses = [use for use in sets.get(sample.task, sets.get("default", ())) if use.reward.kind == "accuracy"]
    assert uses, f"task {sample.task} has no accuracy reward"
    for use in uses:
        use.reward.verify(sample, name=use.name)
    return sum(use.reward.checked(use.reward.function(completion, sample)).value for use in uses) / len(uses)


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_there_are_generated_recipes():
    assert {"scenes", "reading", "charts", "clips", "room", "signs", "steps", "photographs"} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_gold_answer_earns_everything_and_a_wrong_one_does_not(name):
    sets = reward_uses(load_recipe(name)[0].rewards)
    for split in SPLITS:
        for sample in samples(name, split):
            assert accuracy(gold_completion(sample), sample, sets) == pytest.approx(1.0), sample
            wrong = accuracy(Completion(text=wrong_completion(sample)), sample, sets)
            assert wrong < 0.95, (sample, wrong_completion(sample))


@pytest.mark.parametrize("name", RECIPES)
def test_every_file_is_sound(name):
    for split in SPLITS:
        report = validate_manifest(built(name) / f"{split}.jsonl")
        assert report.sound
        assert {sample.metadata["level"] for sample in report.samples} == {"hard" if "hard" in split else "plain"}
    media = validate_rows(built(name) / "test_hard.jsonl", examination=Examination(depth="decode", workers=1))
    assert media.usable == media.rows
    assert not media.found["answer"]


@pytest.mark.parametrize("name", RECIPES)
def test_no_picture_is_in_two_splits(name):
    homes: dict[str, set[str]] = defaultdict(set)
    for split in SPLITS:
        for sample in samples(name, split):
            whole = hashlib.sha256(b"".join(Path(path).read_bytes() for path in media_paths(sample))).hexdigest()
            homes[whole].add(split)
    assert all(len(found) == 1 for found in homes.values())
    assert len(homes) == sum(len(samples(name, split)) for split in SPLITS)


def large(name: str) -> tuple[list[Sample], list[Sample]]:
    """(training rows, held-out rows) of a large build."""
    return [*samples(name, "train", LARGE)], [*samples(name, "validation", LARGE), *samples(name, "test", LARGE)]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_no_option_place_wins_by_habit(name):
    """Each letter of k options is right in 1/k of the questions, within three standard deviations."""
    by_count: dict[int, Counter[str]] = defaultdict(Counter)
    for rows in large(name):
        for sample in rows:
            if sample.answer.type == "choice":
                by_count[len(sample.choices)][sample.answer.value] += 1
    for options, letters in by_count.items():
        rows_of = letters.total()
        assert max(letters.values()) <= rows_of / options + 3 * math.sqrt(rows_of / options * (1 - 1 / options)) + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_no_single_answer_goes_far(name):
    """The best of twenty gold answers of the training rows, given to every held-out row of its task."""
    sets = reward_uses(load_recipe(name)[0].rewards)
    train, held_out = large(name)
    for task in {sample.task for sample in held_out}:
        asked = [sample for sample in held_out if sample.task == task][:80]
        habits = [gold_completion(sample) for sample in train if sample.task == task][:20]
        worth = [sum(accuracy(habit, sample, sets) for sample in asked) / len(asked) for habit in habits]
        assert max(worth) <= 0.6, (task, max(worth))


def text_only(train: Sequence[Sample], test: Sequence[Sample]) -> tuple[float, float]:
    """(share of test answers that the words alone find, share that an ignorant guess finds).

    Options are ranked by how often their text was right in training where the question was alike; other answers are the
    one that was most frequent for the same question, or else for the task.
    """
    right: Counter[tuple[str, str]] = Counter()
    offered: Counter[tuple[str, str]] = Counter()
    answers: dict[str, Counter[object]] = defaultdict(Counter)
    for sample in train:
        if sample.answer.type == "choice":
            for place, text in enumerate(sample.choices):
                for key in (sample.task, sample.question):
                    offered[key, text] += 1
                    right[key, text] += place == ord(sample.answer.value) - ord("A")
        else:
            for key in (sample.task, sample.question):
                answers[key][sample.answer.value] += 1
    found, guessed = 0.0, 0.0
    for sample in test:
        if sample.answer.type == "choice":

            def rate(text: str, sample: Sample = sample) -> float:
                asked = (sample.question, text) if offered[sample.question, text] >= 8 else (sample.task, text)
                return (right[asked] + 1) / (offered[asked] + len(sample.choices))

            best = max(sample.choices, key=rate)
            found += sample.choices.index(best) == ord(sample.answer.value) - ord("A")
            guessed += 1 / len(sample.choices)
        else:
            held = answers[sample.question] if answers[sample.question].total() >= 8 else answers[sample.task]
            found += bool(held) and held.most_common(1)[0][0] == sample.answer.value
            guessed += max(Counter(s.answer.value for s in test if s.task == sample.task).values()) / sum(
                s.task == sample.task for s in test
            )
    return found / len(test), guessed / len(test)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_text_alone_does_not_give_the_answer_away(name):
    train, plain = large(name)
    for task in {sample.task for sample in plain}:
        test = [sample for sample in plain if sample.task == task]
        found, guessed = text_only([s for s in train if s.task == task], test)
        noise = 3 * math.sqrt(guessed * (1 - guessed) / len(test))
        assert found <= guessed + noise + 0.02, (task, found, guessed)
        assert guessed <= 0.51, (task, guessed)  # yes or no is the least that is asked


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_a_seed_gives_the_same_bytes_and_another_seed_other_pictures(name, tmp_path):
    build_recipe(name, tmp_path / "a", settings=TINY)
    build_recipe(name, tmp_path / "b", settings=TINY)
    build_recipe(name, tmp_path / "c", settings=TINY, seed=1)
    first, again, other = (contents(tmp_path / folder) for folder in "abc")
    assert first == again
    media = [{digest for path, digest in held.items() if "/" in path} for held in (first, other)]
    assert media[0]
    assert not media[0] & media[1]


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_more_rows_leave_the_others_as_they_were(name, tmp_path):
    """A slot's question depends on its place, not on how many there are."""

    def told(found: Sequence[Sample]) -> dict[str, tuple[str, object, bytes]]:
        return {s.metadata["key"]: (s.question, s.answer.value, Path(media_paths(s)[0]).read_bytes()) for s in found}

    build_recipe(name, tmp_path / "few", settings=TINY)
    few = told(validate_manifest(tmp_path / "few" / "train.jsonl").samples)
    many = told(samples(name, "train"))
    assert len(few) == 6
    assert few.items() <= many.items()


def test_clips_are_the_same_on_every_processor(monkeypatch):
    """x264 restricted to what older processors have, and to plain C, gives the same bytes."""
    from mmrl.data.builders.worlds import clips, mp4

    write = mp4.mp4
    asked: list[tuple[Any, dict[str, Any], bytes]] = []

    def noted(pictures: Any, **how: Any) -> Any:
        made = write(pictures, **how)
        asked.append((pictures, how, made.content))
        return made

    monkeypatch.setattr(clips, "mp4", noted)
    assert len(list(clips.build_clips(clips.ClipOptions(), seed=0, splits={"train": 37}).rows)) == 37
    pictures, how, content = asked[-1]  # of a clip that AVX2 and AVX-512 wrote differently before they were told not to
    for level in ("avx2", "sse4.2", "0"):
        monkeypatch.setattr(mp4, "_X264", f"cpu-independent=1:asm={level}")
        assert write(pictures, **how).content == content


def test_the_steps_of_a_walk_are_the_gold_reasoning():
    from mmrl.rewards.catalog import score

    for sample in samples("steps", "test"):
        told = gold_completion(sample, reasoning=str(sample.metadata["reasoning"]))
        assert score("steps", told, sample).value == 1.0
        assert sample.choices["ABCD".index(sample.answer.value)] == sample.metadata["steps"][-1]


def test_directions_alone_have_one_order_of_options_and_one_thing():
    from mmrl.data.builders.worlds.clips import ClipOptions, _make
    from mmrl.data.builders.worlds.world import Slot, seeded

    options = ClipOptions(size=56, seconds=3, kinds=("direction",), others=0, one_order=True)
    drafts = [
        _make(Slot(world="clips", seed=0, split="train", number=i, hard=False, random=seeded(i)), options)
        for i in range(8)
    ]
    assert {draft.task for draft in drafts} == {"direction"}
    assert {draft.choices for draft in drafts} == {("right", "left", "down", "up")}
    assert sorted(str(draft.answer.value) for draft in drafts) == sorted("ABCD" * 2)
