"""The gate at a run's start: who passes, who is refused and why, and that a run does not notice it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmrl import build
from mmrl.batch import PolicyOutputs
from mmrl.config.schema import Config
from mmrl.errors import RunError
from mmrl.policy.load import load_model
from mmrl.policy.scrambled import scrambled
from mmrl.progress import SilentProgress
from mmrl.ranks import ALONE
from mmrl.rollout.engine import RolloutEngine, Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.training.collect import PreparesAhead
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics, reproducible
from mmrl.training.parity import ParityGate, Reads, kind_of, pass_gate
from mmrl.types import Media, Prompt, RolloutGroup, Sample
from tests import toy
from tests.clips import write_clip
from tests.contracts.test_rollout_engines import REAL_VLLM
from tests.policy.prompts import KINDS, prompts_of

Alter = Callable[[Prompt], Prompt]


class Shown:
    """An engine that is shown something else than it is asked, and owns up to nothing."""

    def __init__(self, engine: RolloutEngine, alter: Alter) -> None:
        self._engine = engine
        self._alter = alter

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        groups = self._engine.generate([self._alter(p) for p in prompts], sampling, step=step, sizes=sizes)
        return [replace(group, prompt=prompt) for group, prompt in zip(groups, prompts, strict=True)]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        self._engine.load_weights(weights, version=version)


class Shifted(Shown):
    """An engine whose log-probabilities are those of the token before."""

    def __init__(self, engine: RolloutEngine) -> None:
        super().__init__(engine, lambda prompt: prompt)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        return [
            replace(
                group,
                rollouts=tuple(
                    replace(r, policy_logprobs=(r.policy_logprobs[-1], *r.policy_logprobs[:-1])) for r in group.rollouts
                ),
            )
            for group in super().generate(prompts, sampling, step=step, sizes=sizes)
        ]


class NeverLoads(Shown):
    """An engine that keeps the weights it was made with."""

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        self._engine.load_weights([], version=version)


class BlindReader:
    """A trainer whose model sees the altered prompt."""

    def __init__(self, backend: Reads, alter: Alter) -> None:
        self._backend = backend
        self._alter = alter

    def outputs(self, groups: Sequence[RolloutGroup]) -> PolicyOutputs:
        return self._backend.outputs([replace(group, prompt=self._alter(group.prompt)) for group in groups])


def as_asked(prompt: Prompt) -> Prompt:
    return prompt


def grey(prompt: Prompt, items: Sequence[int] | None = None) -> Prompt:
    """All pictures, or these items of several, are the same grey one."""
    vision = prompt.vision
    if vision is None:
        return prompt
    chosen = range(len(vision.grids)) if items is None else [i for i in items if i < len(vision.grids)]
    patches, digests = vision.patches.clone(), list(vision.digests)
    ends = np.cumsum([math.prod(grid) for grid in vision.grids])
    for item in chosen:
        patches[ends[item] - math.prod(vision.grids[item]) : ends[item]] = 0.0
        digests[item] = f"grey {vision.grids[item]}"
    return replace(prompt, vision=replace(vision, patches=patches, digests=tuple(digests)))


def second_grey(prompt: Prompt) -> Prompt:
    return grey(prompt, [1])


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Two of each kind, in an order of no meaning; the first picture cannot be read."""
    folder = tmp_path_factory.mktemp("parity")
    pictures = toy.noise_pictures(folder)
    broken = folder / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:600])
    clip = Media(type="video", path=str(write_clip(folder / "clip.mp4", 8, width=64, height=64)))
    picture = Media(type="image", path=str(pictures[3]))
    return [
        toy.choice_sample("broken", [broken]),
        toy.choice_sample("first", pictures[:1]),
        toy.choice_sample("second", pictures[1:2]),
        replace(toy.choice_sample("clip"), media=(clip,)),
        toy.choice_sample("pair", [pictures[0], pictures[3]]),
        toy.choice_sample("text"),
        replace(toy.choice_sample("both"), media=(picture, clip)),
        toy.choice_sample("three", pictures[1:4]),
    ]


PROBED = ["first", "second", "clip", "pair", "three", "text", "both"]


def trainer_of(folder: Path, model: Path, samples: Sequence[Sample], **rollout: Any) -> Trainer:
    config = Config.model_validate(
        {
            "run": {"name": "gate", "folder": str(folder), "seed": 5},
            "model": {"path": str(model)},
            "video": {"fps": 2, "min_pixels": 56 * 56, "max_pixels": 56 * 56},
            "data": {"train": "unused"},
            "rewards": {"default": [{"path": "tests.training.length_reward:short"}]},
            "algorithm": {"base": "grpo"},
            "rollout": {"prompts_per_step": 3, "group_size": 3, "max_tokens": 8, **rollout},
            "train": {"steps": 2, "learning_rate": 1e-3},
        }
    )
    folder.mkdir(exist_ok=True)
    return build.build_trainer(
        config,
        run_dir=folder,
        model=load_model(str(model)),
        train=samples,
        validation=[],
        scorer=build.build_scorer(config, samples[1:2]),
        progress=SilentProgress(),
    )


def close(trainer: Trainer) -> None:
    if isinstance(trainer.renderer, PreparesAhead):
        trainer.renderer.close()


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, samples: list[Sample]) -> Any:
    made = trainer_of(tmp_path_factory.mktemp("gate") / "run", tiny_folder, samples)
    made.engine.load_weights(made.backend.weights(), version=0)
    yield made
    close(made)


def gate_of(samples: Sequence[Sample], threshold: float = 0.001) -> ParityGate:
    return ParityGate(
        engine="tampered", samples=samples, sampling=Sampling(group_size=3, max_tokens=8), threshold=threshold
    )


def passing(
    trainer: Trainer,
    samples: Sequence[Sample],
    *,
    engine: RolloutEngine | None = None,
    backend: Reads | None = None,
    threshold: float = 0.001,
) -> str:
    return pass_gate(
        gate_of(samples, threshold),
        engine=engine or trainer.engine,
        backend=backend or trainer.backend,
        renderer=trainer.renderer,
        decode=trainer.decode,
        step=0,
        ranks=ALONE,
    )


def test_kinds(samples: list[Sample]) -> None:
    kinds = {sample.id: kind_of(sample) for sample in samples}
    pairs = ["image", "image", "video", "several images", "several images", "text", "images and video"]
    assert [kinds[name] for name in PROBED] == pairs


def test_an_engine_that_samples_the_policy_passes(trainer: Trainer, samples: list[Sample]) -> None:
    line = passing(trainer, samples)
    assert line.startswith("parity: tampered and the trainer are ")
    assert line.count("e-") >= 2
    assert "on 112 tokens of image, video, several images, text, images and video" in line
    assert "noise for pixels" in line


def test_text_alone_needs_no_pixels(trainer: Trainer, samples: list[Sample]) -> None:
    assert "noise" not in passing(trainer, [s for s in samples if s.id == "text"])


def test_samples_that_cannot_be_shown_are_nothing_to_compare(trainer: Trainer, samples: list[Sample]) -> None:
    assert "nothing was compared" in passing(trainer, samples[:1])


def test_weights_that_were_not_loaded_are_refused(
    trainer: Trainer, samples: list[Sample], tiny_folder: Path, tmp_path: Path
) -> None:
    other = load_model(str(tiny_folder))
    with torch.no_grad():
        for n, parameter in enumerate(other.policy.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
            parameter.add_(0.1 * parameter.std().nan_to_num(0.1) * noise)
    engine = NeverLoads(TransformersEngine(other.policy, other.processor.tokenizer, run_seed=0), as_asked)
    with pytest.raises(RunError, match=r"does not sample from the policy that is trained.*rollout.parity_threshold"):
        passing(trainer, samples, engine=engine)


def test_the_refusal_names_the_worst_tokens_with_both_values(trainer: Trainer, samples: list[Sample]) -> None:
    engine = Shifted(trainer.engine)
    with pytest.raises(RunError) as told:
        passing(trainer, samples, engine=engine)
    said = str(told.value)
    assert any(f"On sample {name!r}" in said for name in PROBED)
    assert said.count("engine -") == said.count("trainer -") == 4
    assert "answer 0, token" in said or "answer 1, token" in said
    for kind in ("image", "video", "several images", "text", "images and video"):
        assert f"{kind} " in said.split("By kind: ")[1]
    assert "rollout.engine: transformers" in said


def test_an_engine_that_says_the_same_of_every_token_is_refused(trainer: Trainer, samples: list[Sample]) -> None:
    text = [s for s in samples if s.id == "text"]
    with pytest.raises(RunError, match=r"engine -0\.5, trainer"):
        passing(trainer, text, engine=ScriptedEngine(lambda sample, index: "A red one"))


def test_an_engine_without_pictures_is_refused(trainer: Trainer, samples: list[Sample]) -> None:
    """By the gap where the pictures matter that much; else because noise changes nothing for it."""
    engine = Shown(trainer.engine, grey)
    with pytest.raises(RunError, match="tampered does not s"):
        passing(trainer, samples, engine=engine)
    with pytest.raises(RunError, match=r"does not see the pictures of sample 'first' \(image\)"):
        passing(trainer, samples, engine=engine, threshold=50.0)


def test_a_trained_model_without_pictures_is_refused(trainer: Trainer, samples: list[Sample]) -> None:
    blind = BlindReader(trainer.backend, grey)
    with pytest.raises(RunError, match=r"item 1 of sample 'first' \(image\) does not reach the trained model"):
        passing(trainer, samples, engine=Shown(trainer.engine, grey), backend=blind)


def test_the_one_picture_of_two_that_does_not_arrive_is_named(trainer: Trainer, samples: list[Sample]) -> None:
    pair = [s for s in samples if s.id == "pair"]
    blind = BlindReader(trainer.backend, second_grey)
    with pytest.raises(RunError, match=r"item 2 of sample 'pair' \(several images\) does not reach"):
        passing(trainer, pair, engine=Shown(trainer.engine, second_grey), backend=blind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "text"])
def test_noise_takes_the_place_of_one_item_only(tiny_model: toy.LoadedModel, kind: str) -> None:
    for prompt in prompts_of(kind, tiny_model):
        if prompt.vision is None:
            continue
        for item in range(len(prompt.vision.grids)):
            changed = scrambled(prompt, item)
            assert changed.vision is not None
            assert changed.token_ids == prompt.token_ids
            pairs = zip(prompt.vision.items(), changed.vision.items(), strict=True)
            for i, (before, after) in enumerate(pairs):
                assert torch.equal(before.patches, after.patches) == (i != item)
                assert (before.digest == after.digest) == (i != item)
            again = scrambled(prompt, item).vision
            assert again is not None
            assert torch.equal(again.patches, changed.vision.patches)


def test_a_run_does_not_notice_the_gate(tmp_path: Path, tiny_folder: Path, samples: list[Sample]) -> None:
    logged = []
    for name in ("with", "without"):
        made = trainer_of(tmp_path / name, tiny_folder, samples)
        states = np.random.get_state(), torch.get_rng_state()  # Python's own is drawn from by the checks of types here
        if name == "with":
            passing(made, samples)
            assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[0], strict=True))
            assert torch.equal(torch.get_rng_state(), states[1])
            made = replace(made, gate=gate_of(samples))
        train(made)
        close(made)
        logged.append([reproducible(row) for row in read_metrics(tmp_path / name / "metrics.jsonl")])
    assert logged[0] == logged[1]


def test_a_run_whose_engine_does_not_pass_takes_no_step(
    tmp_path: Path, tiny_folder: Path, samples: list[Sample]
) -> None:
    made = trainer_of(tmp_path / "refused", tiny_folder, samples)
    made = replace(made, gate=gate_of(samples), engine=Shifted(made.engine))
    with pytest.raises(RunError, match="parity_threshold"):
        train(made)
    close(made)
    assert read_metrics(tmp_path / "refused" / "metrics.jsonl") == []


def test_which_engines_have_to_pass(tmp_path: Path, samples: list[Sample]) -> None:
    def gate(backend: str = "float32", **rollout: Any) -> ParityGate | None:
        config = {
            "run": {"name": "gate"},
            "model": {"path": "unused"},
            "data": {"train": "unused"},
            "rewards": {"default": [{"name": "choice"}]},
            "rollout": rollout,
            "backend": {"dtype": backend},
        }
        return build.build_gate(Config.model_validate(config), samples)

    assert gate() is None
    assert gate(engine="vllm", parity_threshold=math.inf) is None
    thresholds = {
        "plain": gate(engine="vllm"),
        "servers": gate(engine="vllm_server"),
        "narrow": gate("bfloat16", engine="vllm"),
        "narrow engine": gate(engine="vllm", vllm={"dtype": "bfloat16"}),
        "given": gate(engine="vllm", parity_threshold=0.3),
    }
    assert {name: made.threshold for name, made in thresholds.items() if made is not None} == {
        "plain": 0.001,
        "servers": 0.001,
        "narrow": 0.05,
        "narrow engine": 0.05,
        "given": 0.3,
    }


class TestVllm:
    """The real vLLM, in this process."""

    pytestmark = REAL_VLLM

    @pytest.fixture
    def engine(self, request: pytest.FixtureRequest, trainer: Trainer, tiny_model: toy.LoadedModel) -> RolloutEngine:
        from mmrl.rollout.vllm_engine import VllmEngine

        sampler = request.getfixturevalue("vllm_sampler")
        made = VllmEngine(tiny_model.policy, tiny_model.processor.tokenizer, run_seed=5, sampler=sampler)
        made.load_weights(trainer.backend.weights(), version=0)
        return made

    def test_it_passes(self, engine: RolloutEngine, trainer: Trainer, samples: list[Sample]) -> None:
        line = passing(trainer, samples, engine=engine, threshold=1e-4)
        print(line)
        assert "images and video" in line

    def test_old_weights_are_refused(
        self, engine: RolloutEngine, trainer: Trainer, samples: list[Sample], tiny_model: toy.LoadedModel
    ) -> None:
        kept = [(n, 1.1 * v.detach()) for n, v in tiny_model.policy.model.named_parameters()]
        engine.load_weights(kept, version=0)
        stale = NeverLoads(engine, as_asked)
        stale.load_weights(trainer.backend.weights(), version=1)
        with pytest.raises(RunError, match="does not sample from the policy"):
            passing(trainer, samples, engine=stale)

    def test_shifted_tokens_are_refused(self, engine: RolloutEngine, trainer: Trainer, samples: list[Sample]) -> None:
        with pytest.raises(RunError, match="Worst tokens"):
            passing(trainer, samples, engine=Shifted(engine))

    def test_pictures_that_are_dropped_are_refused(
        self, engine: RolloutEngine, trainer: Trainer, samples: list[Sample]
    ) -> None:
        with pytest.raises(RunError, match="tampered does not s"):
            passing(trainer, samples, engine=Shown(engine, grey))
        with pytest.raises(RunError, match=r"does not see the pictures of sample 'first' \(image\)"):
            passing(trainer, samples, engine=Shown(engine, grey), threshold=50.0)
