"""The cases that two ranks do for `test_two_ranks.py`, by name."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmrl.algorithms.build import build_algorithm
from mmrl.backend.backend import TrainBackend
from mmrl.errors import ConfigError
from mmrl.policy.load import load_model
from mmrl.ranks import Ranks
from mmrl.training.update import Updated
from tests.backend.two_ranks import (
    MEDIA,
    Case,
    Variant,
    algorithm_of,
    backend_of,
    groups_of,
    pictures_then_text,
    step,
    two_steps,
    what_came_of_it,
)

ALGORITHMS = ("grpo", "apo", "grpo_care")
STAGES = (0, 1, 2, 3)
# Where a part without gradient would be seen: in its momentum, its decay, its own rate and the norm that is clipped.
DECAYING = Variant(
    weight_decay=0.3, max_grad_norm=0.05, learning_rates=(("vision", 1e-4), ("projector", 5e-4)), budget=120
)
EIGHT_BIT = Variant(optimizer="adamw_8bit")

# Settings that must change nothing but where things lie; each at the stages it is for.
VARIANTS = {
    "small_micro_batches": Variant(budget=120),  # unequally many on the ranks: idle ones
    "minibatches": Variant(budget=200),
    "own_rates": Variant(learning_rates=(("vision", 1e-4), ("projector", 5e-4))),
    "frozen_tower": Variant(freeze=("vision", "projector")),
    "checkpointing": Variant(checkpoint_layers=True),
    "offload": Variant(offload=True),
    "lora": Variant(lora="lora"),
    "dora": Variant(lora="dora"),
    "bfloat16": Variant(dtype=torch.bfloat16),
    "unread": Variant(unread=True),
    "unread_lora": Variant(unread=True, lora="lora"),
    "unread_dora": Variant(unread=True, lora="dora"),
    "unread_frozen_tower": Variant(unread=True, freeze=("vision", "projector"), offload=True),
    "unread_bfloat16": Variant(unread=True, dtype=torch.bfloat16),
}
PLACES = {"offload": (2, 3), "bfloat16": (0, 1, 2, 3), "minibatches": (0, 3), "small_micro_batches": (0, 1, 2, 3)}


def staged(variant: Variant, stage: int) -> Variant:
    return dataclasses.replace(variant, stage=stage)


def resumed(
    folder: Path, ranks: Ranks, *, of: str, variant: Variant, algorithm: str, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """A third step after the two that `of` left, from what it saved: at another world size and stage."""
    saved = torch.load(folder / f"{of}.pt", weights_only=False)
    model = load_model(str(folder / "model"))
    state = model.policy.model.state_dict()
    model.policy.model.load_state_dict({**state, **saved["weights"]})
    chosen = algorithm_of(algorithm)
    if variant.lora:
        model = load_model(str(folder / "model"))  # the model stays what it was; the adapters are in the state
    backend = backend_of(model, variant, chosen, ranks)
    backend.load_state(saved["state"])
    groups = groups_of("mixed", model, folder)
    return what_came_of_it(backend, [step(backend, chosen, groups, ranks)])


def follows_masters(folder: Path, ranks: Ranks, *, variant: Variant) -> dict[str, Any]:
    """One step in bfloat16: the policy's values before, its masters after, and the float32 copy of the reference."""
    model = load_model(str(folder / "model"))
    chosen = algorithm_of("grpo_care")
    backend = backend_of(model, variant, chosen, ranks)
    before = {name: value.float().cpu().clone() for name, value in backend.weights()}
    found = what_came_of_it(backend, [step(backend, chosen, groups_of("mixed", model, folder), ranks)])
    return {**found, "before": before}


def falls_back(folder: Path, ranks: Ranks, *, variant: Variant) -> dict[str, Any]:
    """Two steps in bfloat16 with a rule that puts the policy back to an average after every second."""
    model = load_model(str(folder / "model"))
    chosen = build_algorithm({"base": "grpo", "reference": {"type": "elastic_reset", "every": 2, "decay": 0.5}})
    backend = backend_of(model, variant, chosen, ranks)
    groups = groups_of("mixed", model, folder)
    step(backend, chosen, groups, ranks)
    first = what_came_of_it(backend, [])["state"]
    found = what_came_of_it(backend, [step(backend, chosen, groups, ranks)])
    return {**found, "first": first}


def in_eight_bits(folder: Path, ranks: Ranks, *, variant: Variant) -> dict[str, Any]:
    """Two steps, what is saved then, and a third: by the same backend, and by one that begins from what was saved."""
    model = load_model(str(folder / "model"))
    chosen = algorithm_of("grpo_care")
    groups = groups_of("mixed", model, folder)
    straight = backend_of(model, variant, chosen, ranks)
    updates = [step(straight, chosen, groups, ranks) for _ in range(2)]
    saved = ranks.gather(what_came_of_it(straight, updates))[0]
    third = what_came_of_it(straight, [step(straight, chosen, groups, ranks)])
    weights = {**model.policy.model.state_dict(), **saved["weights"]}
    model.policy.model.load_state_dict(weights)
    again = backend_of(model, variant, chosen, ranks)
    again.load_state(saved["state"])
    return {**saved, "third": third, "again": what_came_of_it(again, [step(again, chosen, groups, ranks)])}


def not_finite(folder: Path, ranks: Ranks, *, variant: Variant) -> dict[str, Any]:
    """A loss, then a gradient that is not a number; then a step as if neither had been."""
    model = load_model(str(folder / "model"))
    chosen = algorithm_of("grpo")
    backend = backend_of(model, variant, chosen, ranks)
    groups = groups_of("mixed", model, folder)
    before = {name: value.clone() for name, value in backend.weights()}
    spoilt: list[Updated] = []
    for factor in (math.nan, None):
        broken = Spoilt(backend, loss=factor, ranks=ranks)
        spoilt.append(step(broken, chosen, groups, ranks))  # type: ignore[arg-type]
    unchanged = all(torch.equal(before[name], value) for name, value in backend.weights())
    found = what_came_of_it(backend, [step(backend, chosen, groups, ranks) for _ in range(2)])
    return {
        **found,
        "unchanged": unchanged,
        "skipped": [[(s.what, s.groups) for s in updated.skipped] for updated in spoilt],
    }


class Spoilt:
    """A backend whose last rank spoils one update: its loss, or where that is None its gradients."""

    def __init__(self, backend: TrainBackend, *, loss: float | None, ranks: Ranks) -> None:
        self._backend = backend
        self._loss = loss
        self._mine = ranks.rank == ranks.count - 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def forward(self, parts: Any, **keys: Any) -> Any:
        outputs, packed = self._backend.forward(parts, **keys)
        if self._mine and self._loss is not None:
            outputs = dataclasses.replace(outputs, logprobs=outputs.logprobs * self._loss)
        return outputs, packed

    def backward(self, loss: Any) -> None:
        self._backend.backward(loss * math.inf if self._mine and self._loss is None else loss)


def weights_one_by_one(folder: Path, ranks: Ranks, *, variant: Variant) -> dict[str, Any]:
    """What `weights` and a saved model hold, and what stays on a rank."""
    model = load_model(str(folder / "model"))
    backend = backend_of(model, variant, algorithm_of("grpo_care"), ranks)
    held = sum(p.numel() for p in backend.policy.parameters())
    copies = sum(v.numel() for values in backend._copies.values() for v in values)
    out = folder / f"saved-{variant.stage}"
    backend.save_model(out)
    ranks.gather(None)
    saved = load_model(str(out)).policy.model.state_dict()
    begun = load_model(str(folder / "model")).policy.model.state_dict()
    with backend.whole():  # type: ignore[union-attr]
        inside = sum(p.numel() for p in backend.policy.parameters())
    return {
        "held": held,
        "copies": copies,
        "inside": inside,
        "after": sum(p.numel() for p in backend.policy.parameters()),
        "same": begun.keys() == saved.keys() and all(torch.equal(begun[n], saved[n]) for n in begun),
    }


def refused(folder: Path, ranks: Ranks, *, variant: Variant) -> str:
    try:
        backend_of(load_model(str(folder / "model")), variant, algorithm_of("grpo"), ranks)
    except ConfigError as error:
        return str(error)
    return ""


CASES: dict[str, Case] = {}
for _algorithm in ALGORITHMS:
    for _media in MEDIA:
        for _stage in STAGES:
            CASES[f"{_algorithm}-{_media}-{_stage}"] = partial(
                two_steps, variant=Variant(stage=_stage), algorithm=_algorithm, media=_media
            )
for _name, _variant in VARIANTS.items():
    for _stage in PLACES.get(_name, (3,)):
        CASES[f"{_name}-{_stage}"] = partial(
            two_steps,
            variant=staged(_variant, _stage),
            algorithm="grpo_care",
            media="mixed",
            minibatches=2 if _name == "minibatches" else 1,
        )
CASES["torch"] = partial(two_steps, variant=Variant(kind="torch", budget=120), algorithm="grpo_care", media="mixed")
CASES["torch-bfloat16"] = partial(
    two_steps, variant=Variant(kind="torch", dtype=torch.bfloat16), algorithm="grpo_care", media="mixed"
)
for _from, _to in ((3, 1), (1, 3), (2, 0), (0, 2)):
    CASES[f"resumed-{_from}-{_to}"] = partial(
        resumed, of=f"grpo_care-mixed-{_from}", variant=Variant(stage=_to), algorithm="grpo_care"
    )
CASES["resumed-lora"] = partial(resumed, of="lora-3", variant=Variant(stage=2, lora="lora"), algorithm="grpo_care")
for _stage in STAGES:
    CASES[f"not_finite-{_stage}"] = partial(not_finite, variant=Variant(stage=_stage))
CASES["whole-3"] = partial(weights_one_by_one, variant=Variant(stage=3))
CASES["refused-8bit"] = partial(refused, variant=Variant(stage=2, optimizer="adamw_8bit", offload=True))
for _stage in STAGES:
    CASES[f"text-{_stage}"] = partial(pictures_then_text, variant=staged(DECAYING, _stage))
    CASES[f"masters-{_stage}"] = partial(follows_masters, variant=Variant(stage=_stage, dtype=torch.bfloat16))
    CASES[f"falls_back-{_stage}"] = partial(falls_back, variant=Variant(stage=_stage, dtype=torch.bfloat16))
    CASES[f"8bit-{_stage}"] = partial(in_eight_bits, variant=staged(EIGHT_BIT, _stage))
CASES["text-torch"] = partial(pictures_then_text, variant=dataclasses.replace(DECAYING, kind="torch"))
CASES["8bit-2-to-3"] = partial(resumed, of="8bit-2", variant=staged(EIGHT_BIT, 3), algorithm="grpo_care")
CASES["8bit-bfloat16"] = partial(in_eight_bits, variant=dataclasses.replace(EIGHT_BIT, stage=2, dtype=torch.bfloat16))
