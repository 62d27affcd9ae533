"""What a sampler outside the trainer's model is asked."""

from __future__ import annotations

from mmrl.rollout.asked import Asker
from mmrl.rollout.engine import Sampling
from tests import toy
from tests.policy.prompts import Image, Shown, Video, prompt_of


def test_positions_go_along_with_the_first_prompt_of_each_shape(tiny_model: toy.LoadedModel) -> None:
    """A clip of a single grid time is a shape of its own, wherever it stands."""
    shown: dict[str, list[Shown]] = {
        "clip": [Video(3, 2, 2)],
        "another": [Video(2, 1, 2)],
        "short": [Video(1, 2, 2)],
        "text": [],
        "picture": [Image(2, 2)],
        "short and picture": [Video(1, 2, 2), Image(2, 2)],
        "clip and picture": [Video(2, 2, 2), Image(2, 2)],
        "short again": [Video(1, 1, 2)],
        "other text": [],
    }
    prompts = [prompt_of(name, items, tiny_model) for name, items in shown.items()]
    asker = Asker(tiny_model.policy.family, tiny_model.policy.config, run_seed=0)
    first = asker.ask(prompts[:4], [1] * 4, Sampling(group_size=1, max_tokens=4), step=0)
    then = asker.ask(prompts[4:], [1] * 5, Sampling(group_size=1, max_tokens=4), step=1)
    without = {ask.name for ask in [*first, *then] if ask.positions is None}
    assert without == {"another", "short again", "other text"}
