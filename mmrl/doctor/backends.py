"""The backends, training a tiny model for one step: is the update the one that plain torch makes?"""

from __future__ import annotations

import random
import time
from typing import Literal, cast

from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.deepspeed_backend import DeepSpeedBackend, ZeroSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.doctor.finding import Asked, Finding, Verdict
from mmrl.doctor.tiny import CLIP, RATE, Tried, Update, device_of, plain_update, tolerance, tried, weights_per_token
from mmrl.ranks import ALONE, join_nobody
from mmrl.types import Completion, FinishReason, Rollout, RolloutGroup

SETTINGS = OptimizerSettings(learning_rate=RATE, steps=10, max_grad_norm=CLIP)
GROUP_SIZE = 4
# Of the update's length. Adam steps by its rate however small a gradient is: where one is lost in rounding, the
# direction is rounding's, so that updates differ by more than the gradients they come from.
UPDATE_OFF = 0.02
NAMES = ("torch", "deepspeed, ZeRO 0", "deepspeed, ZeRO 2", "deepspeed, ZeRO 3")


def look(part: str, asked: Asked) -> Finding:
    """`part`: "backend " and one of NAMES."""
    from importlib.util import find_spec

    name = part.removeprefix("backend ")
    if name != "torch" and find_spec("deepspeed") is None:
        return Finding(
            check=part,
            verdict=Verdict.SKIPPED,
            detail="DeepSpeed is not installed",
            advice="only backend.type deepspeed needs it: pip install 'mmrl[deepspeed]'",
        )
    device = device_of(asked.device)
    case = tried()
    groups = random_groups(case)
    expected = plain_update(case.model, groups)
    began = time.perf_counter()
    found = _updated(_backend(name, case, device), case, groups)
    seconds = time.perf_counter() - began
    off = float((found.logprobs - expected.logprobs).abs().max())
    norm_off = abs(found.norm - expected.norm) / expected.norm
    update_off = _apart(found, expected)
    fine = off <= tolerance(device) and norm_off <= 1e-3 and update_off <= UPDATE_OFF
    return Finding(
        check=part,
        verdict=Verdict.OK if fine else Verdict.FAILED,
        detail=f"{device}: one step in {seconds:.1f} s; from plain torch: log-probabilities {off:.1e} nats, gradient "
        f"norm {norm_off:.1e}, update {update_off:.1e} of its length",
        advice=""
        if fine
        else "it trains another way than plain torch would: take backend.type torch, or the tested versions "
        "(constraints.txt), and report it",
        figures={
            "logprob_difference_nats": off,
            "gradient_norm_difference": norm_off,
            "update_difference": update_off,
            "step_seconds": seconds,
        },
    )


def random_groups(case: Tried) -> list[RolloutGroup]:
    """Completions of random tokens of each prompt."""
    draw = random.Random(0)
    size = int(case.model.policy.config.get_text_config().vocab_size)
    groups = []
    for prompt in case.prompts:
        rollouts = []
        for index in range(GROUP_SIZE):
            ids = tuple(draw.randrange(20, size) for _ in range(draw.randint(2, 10)))
            rollouts.append(
                Rollout(
                    completion=Completion(text="", token_count=len(ids), finish_reason=FinishReason.STOP),
                    token_ids=ids,
                    behavior_logprobs=(-1.0,) * len(ids),
                    policy_logprobs=(-1.0,) * len(ids),
                    index=index,
                    seed=index,
                    policy_version=0,
                )
            )
        groups.append(RolloutGroup(prompt=prompt, rollouts=tuple(rollouts)))
    return groups


def _backend(name: str, case: Tried, device: str) -> TorchBackend | DeepSpeedBackend:
    model = case.on(device)
    if name == "torch":
        return TorchBackend(model, SETTINGS, device=device)
    stage = cast(Literal[0, 2, 3], int(name[-1]))
    join_nobody(device)
    return DeepSpeedBackend(model, SETTINGS, ZeroSettings(stage=stage), ranks=ALONE, device=device)


def _updated(backend: TorchBackend | DeepSpeedBackend, case: Tried, groups: list[RolloutGroup]) -> Update:
    backend.begin_step()
    before = {name: value.detach().cpu().clone() for name, value in case.model.policy.model.named_parameters()}
    logprobs = backend.outputs(groups).logprobs.cpu()
    weights = weights_per_token(groups, logprobs.shape[1])
    for parts in backend.micro_batches(groups):
        out, packed = backend.forward(parts)
        own = weights.to(out.logprobs.device)[packed.rows, : out.logprobs.shape[1]]
        backend.backward(-(own * out.logprobs).sum())
    norm, _ = backend.optimizer_step()
    change = {name: value.detach().cpu() - before[name] for name, value in backend.weights()}
    return Update(logprobs=logprobs, norm=norm, change=change)


def _apart(found: Update, expected: Update) -> float:
    """Length of the difference of two updates, of the expected one's."""
    total = sum(float(change.square().sum()) for change in expected.change.values())
    apart = sum(float((found.change[name] - change).square().sum()) for name, change in expected.change.items())
    return float((apart / total) ** 0.5)
