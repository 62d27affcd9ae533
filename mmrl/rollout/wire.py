"""Messages between trainer and servers: a JSON object and named tensors, as one safetensors file. No pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mmrl.rollout.asked import Asked
from mmrl.rollout.completions import Written
from mmrl.rollout.engine import Sampling
from mmrl.rollout.weight_check import Fingerprint
from mmrl.types import VisionInputs

KEY = "message"  # in safetensors' metadata


class Garbled(ValueError):
    """Bytes that are no message, or a message that does not say what it should."""


def packed(message: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """One message."""
    return save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, {KEY: json.dumps(message)}
    )


def unpacked(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Raises Garbled."""
    try:
        size = int.from_bytes(data[:8], "little")
        message = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][KEY])
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Garbled(f"not a message: {type(error).__name__}") from error
    if not isinstance(message, dict):
        raise Garbled("the message is no object")
    return message, tensors


def request(asked: Sequence[Asked], sampling: Sampling) -> bytes:
    """Prompts to complete. Pixels of an item that several prompts show are sent once."""
    tensors: dict[str, Tensor] = {}
    prompts = []
    for n, ask in enumerate(asked):
        tensors[f"ids.{n}"] = torch.tensor(ask.token_ids, dtype=torch.int64)
        if ask.positions is not None:
            tensors[f"positions.{n}"] = ask.positions.clone()
        vision = None
        if ask.vision is not None:
            vision = {
                "grids": ask.vision.grids,
                "kinds": ask.vision.kinds,
                "seconds_per_grid": ask.vision.seconds_per_grid,
                "digests": ask.vision.digests,
            }
            for item in ask.vision.items():
                tensors.setdefault(f"pixels.{item.digest}", item.patches.clone())
        prompts.append({"name": ask.name, "slots": ask.media_slots, "seeds": ask.seeds, "vision": vision})
    return packed({"prompts": prompts, "sampling": asdict(sampling)}, tensors)


def requested(data: bytes) -> tuple[list[Asked], Sampling]:
    """What `request` was given. Raises Garbled."""
    message, tensors = unpacked(data)
    try:
        sampling = Sampling(**{**message["sampling"], "stop": tuple(message["sampling"]["stop"])})
        asked = []
        for n, prompt in enumerate(message["prompts"]):
            vision = prompt["vision"]
            asked.append(
                Asked(
                    name=prompt["name"],
                    token_ids=tuple(tensors[f"ids.{n}"].tolist()),
                    media_slots=tuple((a, b) for a, b in prompt["slots"]),
                    vision=None
                    if vision is None
                    else VisionInputs(
                        patches=torch.cat([tensors[f"pixels.{digest}"] for digest in vision["digests"]]),
                        grids=tuple((t, h, w) for t, h, w in vision["grids"]),
                        kinds=tuple(vision["kinds"]),
                        seconds_per_grid=tuple(vision["seconds_per_grid"]),
                        digests=tuple(vision["digests"]),
                    ),
                    seeds=tuple(prompt["seeds"]),
                    positions=tensors.get(f"positions.{n}"),
                )
            )
    except (KeyError, TypeError, ValueError) as error:
        raise Garbled(f"{type(error).__name__}: {error}") from error
    return asked, sampling


def answer(written: Sequence[Sequence[Written]], *, version: int) -> bytes:
    """Completions of each prompt, by the weights of this version."""
    flat = [completion for group in written for completion in group]
    return packed(
        {"version": version, "groups": [len(group) for group in written]},
        {
            "lengths": torch.tensor([len(c.token_ids) for c in flat], dtype=torch.int64),
            "ids": torch.tensor([i for c in flat for i in c.token_ids], dtype=torch.int64),
            "behavior": torch.tensor([x for c in flat for x in c.behavior_logprobs], dtype=torch.float32),
            "policy": torch.tensor([x for c in flat for x in c.policy_logprobs], dtype=torch.float32),
        },
    )


def answered(
    data: bytes, asked: Sequence[Asked], sampling: Sampling, *, version: int, vocabulary: int
) -> list[list[Written]]:
    """The completions, held against what was asked. Raises Garbled saying what is wrong with them."""
    message, tensors = unpacked(data)
    try:
        sizes = message["groups"]
        lengths, ids = tensors["lengths"].tolist(), tensors["ids"]
        behavior, policy = tensors["behavior"], tensors["policy"]
    except KeyError as error:
        raise Garbled(f"{error} is missing") from error
    if message.get("version") != version:
        raise Garbled(f"sampled by weights of version {message.get('version')}, asked was {version}")
    if sizes != [len(ask.seeds) for ask in asked] or len(lengths) != sum(sizes):
        raise Garbled(f"groups of {sizes} rollouts, asked were {[len(ask.seeds) for ask in asked]}")
    if not len(ids) == len(behavior) == len(policy) == sum(lengths):
        raise Garbled("tokens and log-probabilities of different number")
    if lengths and not (min(lengths) >= 1 and max(lengths) <= sampling.max_tokens):
        raise Garbled(f"a completion of {min(lengths)} or {max(lengths)} tokens")
    if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < vocabulary):
        raise Garbled("a token the model does not have")
    if not (behavior.isfinite().all() and policy.isfinite().all() and bool((behavior <= 0).all())):
        raise Garbled("log-probabilities that are none")
    rows = iter(zip(ids.split(lengths), behavior.split(lengths), policy.split(lengths), strict=True))
    return [
        [
            Written(token_ids=tuple(i.tolist()), behavior_logprobs=tuple(b.tolist()), policy_logprobs=tuple(p.tolist()))
            for i, b, p in (next(rows) for _ in range(size))
        ]
        for size in sizes
    ]


def prints(found: Mapping[str, Fingerprint]) -> bytes:
    """Fingerprints of weights."""
    return packed(
        {"prints": {name: {"count": f.count, "bits": f.bits} for name, f in found.items()}},
        {name: f.product for name, f in found.items() if f.product is not None},
    )


def printed(data: bytes) -> dict[str, Fingerprint]:
    """What `prints` was given. Raises Garbled."""
    message, tensors = unpacked(data)
    try:
        return {
            name: Fingerprint(count=p["count"], bits=p["bits"], product=tensors.get(name))
            for name, p in message["prints"].items()
        }
    except (KeyError, TypeError) as error:
        raise Garbled(f"{type(error).__name__}: {error}") from error
