"""Rollout servers of several ranks: each has its own, and a run that has too few of them ends before it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mmrl.build.servers import check_servers, own_servers
from mmrl.config.schema import Config, ServersConfig
from mmrl.errors import ConfigError
from mmrl.ranks import ALONE, Ranks
from tests import toy
from tests.ranks.launched import forkserver, said, start
from tests.training.killed_run import write_config

URLS = tuple(f"http://10.0.0.{n}:8100" for n in range(5))


def rank(number: int, count: int, local: int) -> Ranks:
    return replace(ALONE, rank=number, count=count, local=local)


def test_addresses_are_dealt_out_with_their_gpus() -> None:
    servers = ServersConfig(urls=URLS, gpus=(0, 1, 2, 3, 4), folder="/shared")
    own = [own_servers(servers, rank(r, 2, local=0)) for r in range(2)]
    assert [of.urls for of in own] == [(URLS[0], URLS[2], URLS[4]), (URLS[1], URLS[3])]
    assert [of.gpus for of in own] == [(0, 2, 4), (1, 3)]
    assert [of.folder for of in own] == ["/shared/rank-0", "/shared/rank-1"]  # versions have the same names there
    assert own_servers(servers, ALONE) == servers


def test_servers_that_are_started_have_gpus_of_their_rank_s_machine() -> None:
    servers = ServersConfig(start=2, gpus=(4, 5, 6, 7))
    two_machines = [rank(r, 4, local=r % 2) for r in range(4)]
    assert [own_servers(servers, of).gpus for of in two_machines] == [(4, 5), (6, 7), (4, 5), (6, 7)]
    assert own_servers(ServersConfig(start=2), two_machines[1]).gpus == ()


def test_too_few_are_refused() -> None:
    for number in range(3):  # the first ones too, who have theirs
        with pytest.raises(ConfigError, match=r"^rollout\.servers\.urls: 2 for 3 ranks, .* Name at least 3"):
            own_servers(ServersConfig(urls=URLS[:2]), rank(number, 3, local=number))
    with pytest.raises(ConfigError, match=r"^rollout\.servers\.gpus: 3 for 2 ranks of a machine, .* Name 4"):
        own_servers(ServersConfig(start=2, gpus=(1, 2, 3)), rank(1, 2, local=1))


def test_servers_beside_ranks_on_gpus_have_theirs_named() -> None:
    config = Config.model_validate(
        {
            "run": {"name": "run"},
            "model": {"tiny": {}},
            "data": {"recipe": "digits"},
            "rewards": {"default": [{"name": "choice"}]},
            "rollout": {"engine": "vllm_server", "servers": {"start": 1}},
        }
    )
    with pytest.raises(ConfigError, match=r"^rollout\.servers\.gpus: name the GPUs"):
        check_servers(config, rank(0, 2, local=0), device="cuda")
    check_servers(config, ALONE, device="cuda")  # one process may share its GPU with its server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ("{urls: ['http://127.0.0.1:9']}", "rollout.servers.urls: 1 for 2 ranks"),
        ("{start: 1, gpus: [0]}", "rollout.servers.gpus: 1 for 2 ranks of a machine"),
    ],
)
def test_a_run_ends_on_all_ranks_before_anything_is_started(servers: str, why: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, toy.noise_pictures(tmp_path, [(56, 56), (84, 56)]))
    more = ["rollout.engine=vllm_server", f"rollout.servers={servers}"]
    processes = start(forkserver(), ["train", str(config), f"run.folder={tmp_path}", *more], tmp_path)
    try:
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [2, 2]
    finally:
        for process in processes:
            process.kill()
    for number in range(2):
        assert why in said(tmp_path, number)
    assert not (tmp_path / "tiny").exists()
