"""Which of the configured rollout servers are a rank's own: a server takes weights from one rank only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.errors import ConfigError

if TYPE_CHECKING:
    from mmrl.config.schema import Config, ServersConfig
    from mmrl.ranks import Ranks


def own_servers(servers: ServersConfig, ranks: Ranks) -> ServersConfig:
    """`servers` as this rank has them.

    Addresses are dealt out in turn, GPUs with them. Servers that are started use the next GPUs of the rank's machine;
    the list is every machine's. Weights in a file have a folder per rank. Raises ConfigError where there is too little.
    """
    if not ranks.several:
        return servers
    _check(servers, ranks=ranks.count, on_a_machine=ranks.local + 1)
    if servers.start is None:
        urls, gpus = tuple(ranks.share(servers.urls)), tuple(ranks.share(servers.gpus))
    else:
        urls, gpus = (), servers.gpus[ranks.local * servers.start :][: servers.start]
    folder = None if servers.folder is None else str(Path(servers.folder) / f"rank-{ranks.rank}")
    return servers.model_copy(update={"urls": urls, "gpus": gpus, "folder": folder})


def check_servers(config: Config, ranks: Ranks, *, device: str) -> None:
    """Raises ConfigError where there are fewer servers, or GPUs for them, than the ranks need. All must call it, and
    all are told the same. device: cpu or cuda, what ranks train on.
    """
    if not ranks.several or config.rollout.engine != "vllm_server":
        return
    servers = config.rollout.servers
    if device == "cuda" and servers.start is not None and not servers.gpus:
        raise ConfigError(
            "rollout.servers.gpus: name the GPUs of the servers that the ranks start: left out, all of them would take "
            "the first GPU, on which a rank trains."
        )
    _check(servers, ranks=ranks.count, on_a_machine=1 + max(ranks.gather(ranks.local)))


def _check(servers: ServersConfig, *, ranks: int, on_a_machine: int) -> None:
    if servers.start is None and len(servers.urls) < ranks:
        raise ConfigError(
            f"rollout.servers.urls: {len(servers.urls)} for {ranks} ranks, and each needs servers of its own. Name at "
            f"least {ranks} (mmrl serve starts one), or start fewer ranks."
        )
    if servers.start is not None and servers.gpus and len(servers.gpus) < on_a_machine * servers.start:
        raise ConfigError(
            f"rollout.servers.gpus: {len(servers.gpus)} for {on_a_machine} ranks of a machine, each with "
            f"rollout.servers.start ({servers.start}) servers. Name {on_a_machine * servers.start}, or start fewer "
            "servers or ranks."
        )
