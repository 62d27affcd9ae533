"""How long a forward and backward pass over groups takes, packed and repeated, by visual tokens and group size.

    make bench            (or: python tools/bench/packed_pass.py --visual-tokens 256 1024 --group-sizes 8 16)

The model is the tiny Qwen2.5-VL with random weights, the picture is noise, the completions are random tokens. Packed
computes the prompt once per group; repeated makes one plain call of the Hugging Face model per completion. Both give
the same log-probabilities; the largest difference is printed beside the times, so that a wrong pass cannot look fast.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmrl.cli.console import print_table
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.packed import pack, split_groups
from mmrl.policy.render import Renderer
from mmrl.policy.repeated import repeated_outputs
from mmrl.policy.tiny import save_tiny_model
from mmrl.types import Answer, Completion, Media, Rollout, RolloutGroup, Sample

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is

from tools.bench.scratch import scratch_folder

PIXELS_PER_TOKEN = 28  # edge of the square that becomes one visual token
REPEATS = 3  # timed passes; the fastest counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visual-tokens", type=int, nargs="+", default=[64, 256, 1024], help="square numbers")
    parser.add_argument("--group-sizes", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--completion-tokens", type=int, default=64)
    options = parser.parse_args()
    rows = []
    with scratch_folder() as folder:
        save_tiny_model(folder / "model", seed=0)
        model = load_model(f"{folder}/model")
        for visual in options.visual_tokens:
            for size in options.group_sizes:
                group = random_group(model, folder, visual, size, options.completion_tokens)
                rows.append((visual, size, *compare(model, group)))
    print(
        f"{options.completion_tokens}-token completions, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print_table(("visual tokens", "group", "packed s", "repeated s", "times as fast", "largest difference"), rows)


def compare(model: LoadedModel, group: RolloutGroup) -> tuple[float, float, float, str]:
    """(packed seconds, repeated seconds, their ratio, largest difference of a log-probability)."""
    policy = model.policy
    pad_id = model.processor.tokenizer.pad_token_id

    def packed() -> Tensor:
        batch = pack(split_groups([group], 1_000_000), policy.family, policy.config, pad_id=pad_id)
        logprobs: Tensor = policy(batch).logprobs
        return logprobs

    def repeated() -> Tensor:
        return repeated_outputs(policy, [group]).logprobs

    fast, ours = timed(packed, policy)
    slow, theirs = timed(repeated, policy)
    return round(fast, 3), round(slow, 3), round(slow / fast, 1), f"{float((ours - theirs).abs().max()):.0e}"


def timed(forward: Callable[[], Tensor], policy: torch.nn.Module) -> tuple[float, Tensor]:
    """Seconds of the fastest forward and backward pass, and the log-probabilities."""
    seconds = []
    for _ in range(REPEATS):
        policy.zero_grad()
        began = time.perf_counter()
        logprobs = forward()
        logprobs.mean().backward()
        seconds.append(time.perf_counter() - began)
    return min(seconds), logprobs.detach()


def random_group(model: LoadedModel, folder: Path, visual_tokens: int, size: int, length: int) -> RolloutGroup:
    """One picture of noise and `size` completions of random text tokens."""
    random = np.random.default_rng(0)
    edge = round(visual_tokens**0.5) * PIXELS_PER_TOKEN
    picture = folder / f"{edge}.png"
    Image.fromarray(random.integers(0, 256, (edge, edge, 3), dtype=np.uint8)).save(picture)
    sample = Sample(
        id=f"noise-{edge}",
        task="choice",
        question="What is it?",
        media=(Media(type="image", path=str(picture)),),
        answer=Answer(type="text", value=""),
    )
    policy = model.policy
    prompts, dropped = Renderer(model.processor, policy.family, policy.config).render([sample])
    assert not dropped, dropped
    rollouts = []
    for index in range(size):
        tokens = tuple(int(token) for token in random.integers(20, 380, length))
        rollouts.append(
            Rollout(
                completion=Completion(text="", token_count=length),
                token_ids=tokens,
                behavior_logprobs=(0.0,) * length,
                policy_logprobs=(0.0,) * length,
                index=index,
                seed=index,
                policy_version=0,
            )
        )
    return RolloutGroup(prompt=prompts[0], rollouts=tuple(rollouts))


if __name__ == "__main__":
    main()
