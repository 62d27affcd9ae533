"""`mmrl serve`: a rollout server on this machine, for runs elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    port: Annotated[int, typer.Option(help="To listen on.", min=1, max=65535)] = 8100,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 to be reached from other machines.")
    ] = "127.0.0.1",
) -> None:
    """Wait for runs whose rollouts this machine is to sample with vLLM.

    The model, its settings and its weights come from the run (rollout.engine: vllm_server, rollout.servers.urls). One
    run at a time. Whoever reaches the port can use the machine's GPU: listen where only the run's machines can.

    \b
    Examples:
      mmrl serve
      CUDA_VISIBLE_DEVICES=1 mmrl serve --host 0.0.0.0 --port 8101
    """
    from importlib.util import find_spec

    from mmrl.errors import ConfigError
    from mmrl.rollout.vllm_sampler import INSTALL
    from mmrl.rollout.vllm_server import Server

    if find_spec("vllm") is None:
        raise ConfigError(INSTALL)
    try:
        server = Server(host, port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port} ({error}). Choose another --port or --host.") from error
    print(f"listening on http://{host}:{port}", flush=True)
    server.serve_forever()
