"""The reward `steps`: the reasoning is compared with the known steps, one after the other."""

import pytest

from mmrl.errors import RewardError
from mmrl.rewards.catalog import reward, score
from mmrl.types import Answer, Sample

WALK = Sample(
    id="w",
    task="steps",
    question="Which colour?",
    choices=("red", "blue", "green"),
    answer=Answer(type="choice", value="A"),
    metadata={"steps": ["blue", "green", "red"], "step_words": ["red", "green", "blue"]},
)


@pytest.mark.parametrize(
    ("reasoning", "value"),
    [
        ("Step 1: right to blue. Step 2: down to green. Step 3: up to red.", 1.0),
        ("Blue, then green, then red. So it is red.", 1.0),  # the conclusion repeats the last step
        ("blue green green red", 1.0),
        ("First blue, then red.", 1 / 3),  # the first step is right, the second is not
        ("It is red.", 0.0),  # the right end, and no way there
        ("blue green", 2 / 3),
        ("blue green red blue", 3 / 4),  # goes too far
        ("", 0.0),
        ("bluegreenred", 0.0),  # no words
    ],
)
def test_the_value_is_the_common_beginning(reasoning, value):
    said = f"<think>{reasoning}</think><answer>A</answer>"
    assert score("steps", said, WALK).value == pytest.approx(value)


def test_a_sample_without_steps_is_refused():
    plain = Sample(id="p", task="t", question="?", answer=Answer(type="text", value="x"))
    with pytest.raises(RewardError, match="needs metadata"):
        reward("steps").verify(plain, name="steps")
