"""Started twice by torchrun: each rank has a vLLM in its process and a server of its own, does work of its own, gives
both the weights of a policy that is spread over the ranks and has adapters, and screens samples with the others.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch import distributed

from mmrl.algorithms.reference import NoReference
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.deepspeed_backend import DeepSpeedBackend, ZeroSettings
from mmrl.config.schema import Config
from mmrl.data.manifest import read_manifest
from mmrl.pipeline.screening import screened
from mmrl.policy.adapters import add_adapters, merged_weights
from mmrl.policy.load import LoadedModel, load_model
from mmrl.progress import SilentProgress
from mmrl.ranks import Ranks, join, leave
from mmrl.rollout.engine import Sampling
from mmrl.rollout.server_client import Client
from mmrl.rollout.vllm_engine import VllmEngine, start_sampler
from mmrl.rollout.vllm_server_engine import ServerSettings, VllmServerEngine
from tests import toy
from tests.contracts.test_rollout_engines import distance
from tests.policy.prompts import prompts_of


def main() -> None:
    model_folder, folder, servers = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    ranks = join("cpu")
    model = load_model(model_folder)
    engine = own_work(model, ranks)
    spread_policy(model, engine, servers[ranks.rank], ranks)
    engine.close()
    screening(model_folder, folder, servers, ranks)
    met = torch.ones(1)
    distributed.all_reduce(met)
    assert met.item() == 2
    leave()
    assert gloo_groups() <= 2  # torch's default one and DeepSpeed's; vLLM's dozen has gone with it


def gloo_groups() -> int:
    """Of this process: each has a thread of that name."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return names.count("gloo_tcp_loop")


def own_work(model: LoadedModel, ranks: Ranks) -> VllmEngine:
    """The ranks need not sample equally often, or equally much."""
    sampler = start_sampler(model.policy, model.processor, toy.vllm_settings())
    engine = VllmEngine(model.policy, model.processor.tokenizer, run_seed=0, sampler=sampler)
    engine.load_weights(model.policy.model.named_parameters(), version=0)
    for round_ in range(1 + ranks.rank):
        groups = engine.generate(
            prompts_of("mixed", model)[ranks.rank :: 2],
            Sampling(group_size=2 + ranks.rank, max_tokens=8 + 4 * ranks.rank),
            step=round_,
        )
        assert distance(groups, model) < 1e-4
    return engine


def spread_policy(model: LoadedModel, engine: VllmEngine, address: str, ranks: Ranks) -> None:
    """ZeRO-3 with adapters: vLLM in the process and on a server sample from what the whole policy computes."""
    whole = copy.deepcopy(model)
    add_adapters(whole.policy, rank=2, alpha=8.0, targets=(), parts=("language", "vision"), seed=0)
    with torch.no_grad():
        for name, parameter in whole.policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    backend = DeepSpeedBackend(
        copy.deepcopy(whole),
        OptimizerSettings(learning_rate=1e-3, steps=10),
        ZeroSettings(stage=3),
        ranks=ranks,
        reference=NoReference(),
    )
    assert any(p.numel() == 0 for p in backend.policy.parameters())  # nobody holds it whole
    server = VllmServerEngine(
        model.policy,
        model.processor,
        [Client(address)],
        run_seed=0,
        vllm=toy.vllm_settings(),
        settings=ServerSettings(),
    )
    server.load_weights(merged_weights(model.policy.model), version=0)  # as a run does, and checks them
    prompts = prompts_of("mixed", model)[ranks.rank :: 2]
    sampling = Sampling(group_size=2, max_tokens=8)
    for other in (engine, server):
        other.load_weights(backend.weights(), version=1)
        groups = other.generate(prompts, sampling, step=0)
        assert distance(groups, whole) < 1e-4
        assert distance(groups, model) > 1e-3  # without the adapters it is another policy
    server.close()


def screening(model_folder: str, folder: Path, addresses: list[str], ranks: Ranks) -> None:
    """Each rank its share of the samples, with the server that falls to it."""
    config = Config.model_validate(
        {
            "run": {"name": "run", "folder": str(folder), "seed": 3},
            "model": {"path": model_folder},
            "data": {"train": str(folder / "all.jsonl")},
            "prompt": {"mode": "vanilla"},
            "rewards": {"default": [{"path": "tests.training.length_reward:EVEN"}]},
            "rollout": {
                "prompts_per_step": 4,
                "max_tokens": 8,
                "engine": "vllm_server",
                "servers": {"urls": addresses},
                # As `toy.vllm_settings`, so that the server goes on with the vLLM it has.
                "vllm": {"max_model_len": 2048, "cache_gib": 0.25},
            },
            "screening": {"rollouts": 2},
            "backend": {"threads": 1},
        }
    )
    manifest = str(folder / "all.jsonl")
    samples = read_manifest(manifest)
    kept = screened(config, folder / "run", model_folder, manifest, samples, SilentProgress(), ranks)
    assert [sample.id for sample in kept] == [sample.id for sample in samples]
    assert all(sample.metadata["difficulty"]["rollouts"] == 2 for sample in kept)


if __name__ == "__main__":
    main()
