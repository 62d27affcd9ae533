"""What the benchmarks count, and the bounds they hold it against, on numbers worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmrl.policy.render import Renderer
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from tests import toy
from tools.bench import scaling
from tools.bench.counting import Bounds, Counts, beside_bounds
from tools.bench.flops import BACKWARD, Shape, computed, needed
from tools.bench.turns import phases


def bounds(**changes: Any) -> Bounds:
    settings: dict[str, Any] = {"group_size": 4, "completion_tokens": 3, "beta": 0.0, "frozen": False}
    return Bounds.of([(10, 16), (20, 64)], **(settings | changes))


def test_bound_reads_a_prompt_once_per_pass_and_no_completion_s_last_token() -> None:
    # Per pass: 10 + 4·2 + 20 + 4·2 = 46 tokens, 16 + 64 = 80 patches; rollout and update are two passes
    # over the tokens, and share what the tower made of the pictures.
    found = bounds()
    assert (found.images, found.patches, found.tokens) == (2, 80, 92)


def test_reference_is_one_more_pass() -> None:
    assert (bounds(beta=0.04).patches, bounds(beta=0.04).tokens) == (160, 138)


def test_frozen_tower_encodes_once_a_step() -> None:
    assert (bounds(frozen=True, beta=0.04).patches, bounds(frozen=True, beta=0.04).tokens) == (80, 138)


def test_counts_stand_beside_their_bounds() -> None:
    counts = {"images": 4, "patches": {"rollout": 80, "update": 160}, "tokens": {"rollout": 46, "update": 69}}
    found = beside_bounds(counts, bounds())
    assert found["images"] == {"counted": 4, "bound": 2, "times": 2.0}
    assert found["patches"]["times"] == 3.0
    assert found["tokens"]["times"] == 1.25
    assert found["by_pass"]["tokens"] == counts["tokens"]


class _TextModel(nn.Module):
    def forward(self, *, inputs_embeds: Tensor) -> Tensor:
        return inputs_embeds


class _VisionTransformer(nn.Module):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states


def test_passes_are_told_apart() -> None:
    policy, reference = nn.ModuleList([_TextModel(), _VisionTransformer()]), _TextModel()
    counts = Counts()
    counts.policy(policy)
    generate = counts.generation(lambda: policy[0](inputs_embeds=torch.zeros(8, 1, 2)))
    policy[1](torch.zeros(7, 3))  # before `start`: not counted
    counts.start()
    policy[0](inputs_embeds=torch.zeros(2, 5, 2))
    policy[1](torch.zeros(64, 3))
    with torch.no_grad():
        generate()
        policy[0](inputs_embeds=torch.zeros(1, 3, 2))
        reference(inputs_embeds=torch.zeros(1, 9, 2))
    found = counts.stop()
    policy[1](torch.zeros(7, 3))
    assert found["tokens"] == {"update": 10, "rollout": 8, "old": 3, "reference": 9}
    assert found["patches"] == {"update": 64}


def test_every_picture_of_a_call_counts() -> None:
    class Processor:
        def preprocess(self, images: Any, size: int = 0) -> int:
            return size

    counts, processor = Counts(), Processor()
    counts.images_of(processor)
    counts.start()
    assert processor.preprocess([["a", "b"], ["c"]], size=3) == 3
    processor.preprocess("d")
    assert counts.stop()["images"] == 4


def test_phases_leave_the_rest_over() -> None:
    steps = [{"seconds": s, "phases": {"render": 0.25, "update": u}} for s, u in ((1.0, 0.5), (2.0, 1.5), (3.0, 2.0))]
    assert phases(steps) == {"render": 0.25, "update": 1.5, "rest": 0.25}
    assert phases([{"seconds": 1.0}]) == {}


def test_growth_is_one_where_the_step_is_proportional() -> None:
    rows = scaling.with_growth([{"size": s, "step_seconds": t} for s, t in ((1, 1.0), (2, 2.0), (4, 3.0), (16, 6.0))])
    assert "growth" not in rows[0]
    assert [row["growth"] for row in rows[1:]] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert [row["exponent"] for row in rows[1:]] == [1.0, pytest.approx(0.585, abs=1e-3), 0.5]


def test_verdict_asks_every_stretch_and_the_whole() -> None:
    def judged(*seconds: float) -> dict[str, Any]:
        points = [{"size": 2**i, "step_seconds": t} for i, t in enumerate(seconds)]
        return scaling.verdict(scaling.with_growth(points))

    assert judged(1.0, 1.2, 1.5)["below_half"] is True
    assert judged(1.0, 1.2, 1.5)["overall"] == pytest.approx(0.5 / 3)
    assert judged(1.0, 1.1, 1.8)["below_half"] is False  # the last stretch grows by 0.64 of proportional
    assert judged(1.0)["below_half"] is None


def products(function: Any) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def test_flops_of_tower_decoder_and_head_are_what_torch_counts(tiny_model: toy.LoadedModel) -> None:
    """Without attention, whose kernels count masked pairs too; that part is worked by hand below."""
    policy, config = tiny_model.policy.eval().requires_grad_(False), tiny_model.policy.config
    shape = Shape.of(config)
    model: Any = policy.model
    layer = model.model.language_model.layers[0]
    hidden = torch.zeros(1, 6, shape.hidden)
    linear = [m for m in layer.modules() if isinstance(m, nn.Linear)]
    decoder = sum(products(lambda m=m: m(torch.zeros(6, m.in_features))) for m in linear)
    assert decoder * shape.layers == 6 * shape.per_token
    assert products(lambda: model.lm_head(hidden)) == 6 * shape.per_scored
    tower = model.model.visual
    linear = [m for m in tower.modules() if isinstance(m, nn.Linear)]
    merger = {m for m in tower.merger.modules() if isinstance(m, nn.Linear)}
    rows = {m: 4 if m in merger else 16 for m in linear}  # the merger joins four patches
    found = sum(products(lambda m=m: m(torch.zeros(rows[m], m.in_features))) for m in linear)
    found += 2 * 16 * shape.patch_values * shape.vision_hidden  # the patch embedding is a convolution by name
    assert found == 16 * shape.per_patch


def test_flops_of_a_step_by_hand() -> None:
    shape = Shape(
        hidden=2, layers=1, query_width=2, key_width=1, inner=3, vocabulary=5,
        vision_hidden=2, vision_depth=2, vision_inner=3, vision_full=1, patch_values=6, window_patches=4,
    )  # fmt: skip
    assert shape.per_token == 2 * (2 * 4 + 4 + 18) == 60
    assert shape.per_pair == 8
    assert shape.per_scored == 20
    assert shape.per_patch == 2 * (12 + 2 * (16 + 18) + (64 + 16) / 4) == 200
    # 8 patches: one layer over 64 pairs, one over two windows of 4: 32 pairs; 4·2 operations a pair.
    assert shape.tower(8) == 8 * 200 + 8 * (64 + 32)
    # P = 3, G = 2, C = 3: 3 + 2·2 = 7 tokens; pairs 6 + 2·(2·3 + 3) = 24; 6 scored positions, 5 sampled ones.
    found = needed(shape, [(3, 8)], group_size=2, completion_tokens=3, beta=0.04, frozen=False)
    decoder, tower = 7 * 60 + 24 * 8, 2368
    assert found.rollout == decoder + 5 * 20 + tower
    assert found.reference == decoder + 6 * 20 + tower
    assert found.update == 3 * found.reference
    frozen = needed(shape, [(3, 8)], group_size=2, completion_tokens=3, beta=0.0, frozen=True)
    assert frozen.update == (1 + BACKWARD) * (decoder + 120)
    assert frozen.total == frozen.rollout + frozen.update
    by_pass = {"tokens": {"rollout": 7, "update": 7}, "patches": {"rollout": 8}}
    assert computed(shape, by_pass) == 7 * 60 + 3 * 7 * 60 + 8 * 200


def test_counter_sees_the_engine_s_passes(tiny_model: toy.LoadedModel, pictures: list[Any]) -> None:
    policy = tiny_model.policy
    counts = Counts()
    counts.policy(policy)
    engine = TransformersEngine(policy, tiny_model.processor.tokenizer, run_seed=0)
    renderer = Renderer(tiny_model.processor, policy.family, policy.config)
    prompts, _ = renderer.render([toy.choice_sample("s", pictures[:1])])
    counts.start()
    (group,) = counts.generation(engine.generate)(prompts, Sampling(group_size=3, max_tokens=4), step=0)
    found = counts.stop()
    assert prompts[0].vision is not None
    assert found["patches"] == {"rollout": len(prompts[0].vision.patches)}
    written = sum(len(rollout.token_ids) - 1 for rollout in group.rollouts)
    assert len(prompts[0].token_ids) + written <= found["tokens"]["rollout"] <= len(prompts[0].token_ids) + 3 * 3
