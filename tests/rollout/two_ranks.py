"""Started twice by torchrun: each rank has a vLLM in its process, does work of its own, and goes on with the others."""

from __future__ import annotations

import sys

import torch
from torch import distributed

from mmrl.policy.load import load_model
from mmrl.rollout.engine import Sampling
from mmrl.rollout.vllm_engine import VllmEngine, start_sampler
from tests import toy
from tests.contracts.test_rollout_engines import distance
from tests.policy.prompts import prompts_of


def main() -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    model = load_model(sys.argv[1])
    sampler = start_sampler(model.policy, model.processor, toy.vllm_settings())
    engine = VllmEngine(model.policy, model.processor.tokenizer, run_seed=0, sampler=sampler)
    engine.load_weights(model.policy.model.named_parameters(), version=0)
    for round_ in range(1 + rank):  # the ranks need not sample equally often, or equally much
        groups = engine.generate(
            prompts_of("mixed", model)[rank::2], Sampling(group_size=2 + rank, max_tokens=8 + 4 * rank), step=round_
        )
        assert distance(groups, model) < 1e-4
    engine.close()
    met = torch.ones(1)
    distributed.all_reduce(met)
    assert met.item() == 2
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
