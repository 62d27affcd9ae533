"""Servers that hang, break off or refuse while weights are on their way: they are named, and the others go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from mmrl.errors import RunError
from mmrl.rollout import vllm_server_engine
from mmrl.rollout.engine import Sampling
from mmrl.rollout.server_client import Client, ServerFailure
from mmrl.rollout.vllm_server import Server
from mmrl.rollout.vllm_server_engine import ServerSettings, VllmServerEngine
from mmrl.rollout.wire import packed, request
from mmrl.types import Prompt
from tests import toy
from tests.contracts.test_rollout_engines import REAL_VLLM, distance
from tests.policy.prompts import prompts_of

SAMPLING = Sampling(group_size=2, max_tokens=6)


@pytest.fixture
def prompts(tiny_model: toy.LoadedModel) -> list[Prompt]:
    return prompts_of("mixed", tiny_model)


def serving(
    model: toy.LoadedModel, clients: Sequence[Client], settings: ServerSettings, *, max_model_len: int = 2048
) -> VllmServerEngine:
    return VllmServerEngine(
        model.policy,
        model.processor,
        clients,
        run_seed=0,
        vllm=replace(toy.vllm_settings(), max_model_len=max_model_len),
        settings=settings,
    )


class _Answers(BaseHTTPRequestHandler):
    """Agrees to everything but what its server refuses, and samples nonsense."""

    server: _Stub

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.refuses.get(self.path, 200)
        body = b"no" if status != 200 or self.path == "/generate" else packed({}, {})
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Stub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Answers)
        self.refuses: dict[str, int] = {}
        self.client = Client(f"http://{host}:{self.server_address[1]}")


@pytest.fixture
def stubs() -> Iterator[list[_Stub]]:
    """One on this machine, and one whose address does not say that it is."""
    made = [_Stub("127.0.0.1"), _Stub("127.0.0.2")]
    for stub in made:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
    yield made
    for stub in made:
        stub.shutdown()
        stub.server_close()


@pytest.fixture
def unstarted() -> Iterator[Client]:
    """A server of ours as it is after it was started again."""
    server = Server("127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Client(f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    server.server_close()


class TestWithoutVllm:
    def test_weights_go_by_file_where_no_server_can_be_met_and_all_can_read_it(
        self, stubs: list[_Stub], tiny_model: toy.LoadedModel, tmp_path: Path
    ) -> None:
        here, elsewhere = stubs
        here.refuses["/weights/meet"] = elsewhere.refuses["/weights/meet"] = 500
        weights = dict(tiny_model.policy.model.named_parameters())
        engine = serving(tiny_model, [here.client], ServerSettings())
        engine.load_weights(weights.items(), version=0)
        [notice] = engine.take_notices()
        assert notice.startswith(f"{here.client.url} forms no process group")
        assert notice.endswith("weights go by file")
        engine = serving(tiny_model, [here.client, elsewhere.client], ServerSettings())
        with pytest.raises(RunError, match=r"rollout\.servers\.address, '127\.0\.0\.1' now.*rollout\.servers\.folder"):
            engine.load_weights(weights.items(), version=0)
        engine = serving(tiny_model, [here.client, elsewhere.client], ServerSettings(folder=tmp_path))
        engine.load_weights(weights.items(), version=0)
        assert engine.servers == (here.client.url, elsewhere.client.url)

    def test_a_server_that_was_started_again_has_failed_and_says_so_on_its_own_console(
        self, unstarted: Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for path in ("/generate", "/weights/receive"):
            with pytest.raises(ServerFailure, match=rf"{unstarted.url} failed: RunError: the server (was|has) not "):
                unstarted.post(path, request([], SAMPLING), seconds=10)
        said = capsys.readouterr().err
        assert said.count("Traceback (most recent call last)") == 2
        assert "POST /generate failed" in said
        assert "the server was not started with a model" in said

    def test_what_is_the_request_s_fault_names_the_server_and_is_no_failure_of_it(
        self, unstarted: Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(RunError, match=rf"^rollout server {unstarted.url}: not a message"):
            unstarted.post("/generate", b"?", seconds=10)
        assert capsys.readouterr().err == ""


class TestWithVllm:
    pytestmark = REAL_VLLM

    def test_a_server_that_does_not_join_is_left_out_and_the_others_are_given_weights_as_before(
        self, stubs: list[_Stub], vllm_servers: list[Client], tiny_model: toy.LoadedModel, prompts: list[Prompt]
    ) -> None:
        stubs[1].refuses["/weights/join"] = 500
        engine = serving(tiny_model, [stubs[1].client, vllm_servers[0]], ServerSettings())
        began = time.monotonic()
        patience = vllm_server_engine.JOIN_SECONDS
        vllm_server_engine.JOIN_SECONDS = 5.0
        try:
            engine.load_weights(tiny_model.policy.model.named_parameters(), version=0)
        finally:
            vllm_server_engine.JOIN_SECONDS = patience
        assert time.monotonic() - began < 30
        [failure] = engine.failures
        assert failure.startswith(f"{stubs[1].client.url} forms no process group with this machine")
        assert engine.servers == (vllm_servers[0].url,)
        assert [m.pair is not None for m in engine._roster.working] == [True]
        assert distance(engine.generate(prompts, SAMPLING, step=0), tiny_model) < 1e-4

    def test_a_server_that_was_started_again_is_left_out_and_the_others_do_its_work(
        self, vllm_servers: list[Client], unstarted: Client, tiny_model: toy.LoadedModel, prompts: list[Prompt]
    ) -> None:
        weights = dict(tiny_model.policy.model.named_parameters())
        engine = serving(tiny_model, vllm_servers, ServerSettings(retry_seconds=0, sync_seconds=20))
        engine.load_weights(weights.items(), version=0)
        engine._roster.working[0].client = unstarted  # at its address there is another now
        assert len(engine.generate(prompts, SAMPLING, step=0)) == len(prompts)
        assert engine.failures == (f"{unstarted.url} failed: RunError: the server was not started with a model",)
        engine = serving(tiny_model, vllm_servers, ServerSettings(retry_seconds=0, sync_seconds=20))
        engine.load_weights(weights.items(), version=0)
        engine._roster.working[0].client = unstarted  # noticed while weights are sent this time
        began = time.monotonic()
        engine.load_weights(weights.items(), version=1)
        assert time.monotonic() - began < 15
        assert engine.failures == (f"{unstarted.url} failed: RunError: the server has not met the trainer",)
        assert distance(engine.generate(prompts, SAMPLING, step=0), tiny_model) < 1e-4

    def test_one_that_hangs_while_weights_are_sent_takes_nobody_along_and_comes_back(
        self, vllm_servers: list[Client], tiny_model: toy.LoadedModel, prompts: list[Prompt]
    ) -> None:
        weights = {name: value.detach() for name, value in tiny_model.policy.model.named_parameters()}
        hangs, works = vllm_servers
        assert hangs._child is not None
        theirs = Client(hangs.url)  # of somebody else: it is not ended when it is left out
        engine = serving(tiny_model, [theirs, works], ServerSettings(sync_seconds=8, retry_seconds=0.01))
        engine.load_weights([(name, 1.5 * value) for name, value in weights.items()], version=0)
        os.kill(hangs._child.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            engine.load_weights(weights.items(), version=1)
            assert time.monotonic() - began < 20
            assert len(engine.servers) == 1
            [failure] = engine.failures
            assert failure == f"{hangs.url} does not take weights (it kept the others waiting for 8 seconds)"
            assert works.url in engine.servers
            groups = engine.generate(prompts, SAMPLING, step=0)
            assert distance(groups, tiny_model) < 1e-4
            assert {r.policy_version for g in groups for r in g.rollouts} == {1}
        finally:
            os.kill(hangs._child.process.pid, signal.SIGCONT)
        time.sleep(0.02)
        engine.generate(prompts[:1], SAMPLING, step=1)  # it is tried again beside it
        [absent] = engine._roster._absent
        assert absent.trial is not None
        absent.trial.result(120)
        engine.load_weights(weights.items(), version=2)
        assert set(engine.servers) == {works.url, hangs.url}
        assert distance(engine.generate(prompts, SAMPLING, step=0), tiny_model) < 1e-4

    def test_a_load_that_breaks_off_is_told_in_vllm_s_words_and_the_next_start_begins_afresh(
        self, vllm_servers: list[Client], tiny_model: toy.LoadedModel, prompts: list[Prompt]
    ) -> None:
        weights = {name: value.detach() for name, value in tiny_model.policy.model.named_parameters()}
        norm = "model.language_model.norm.weight"
        client = Client(vllm_servers[0].url)  # of somebody else: it is not ended when it is left out
        engine = serving(tiny_model, [client], ServerSettings(sync_seconds=60, retry_seconds=0))
        engine.load_weights(weights.items(), version=0)
        began = time.monotonic()
        with pytest.raises(RunError, match=rf"What happened: {client.url} failed: (AssertionError|.*size|.*shape)"):
            engine.load_weights({**weights, norm: torch.ones(3)}.items(), version=1)
        assert time.monotonic() - began < 30
        assert client.health()["started"] is False
        engine = serving(tiny_model, [client], ServerSettings())
        assert client.health()["started"] is True
        engine.load_weights(weights.items(), version=0)
        assert distance(engine.generate(prompts, SAMPLING, step=0), tiny_model) < 1e-4

    def test_a_start_that_fails_leaves_nothing_that_the_next_would_keep(
        self, vllm_servers: list[Client], tiny_model: toy.LoadedModel, prompts: list[Prompt]
    ) -> None:
        client = Client(vllm_servers[0].url)  # of somebody else: it is not ended when it is left out
        serving(tiny_model, [client], ServerSettings())
        with pytest.raises(RunError, match=rf"no rollout server is left.*{client.url} failed"):
            serving(tiny_model, [client], ServerSettings(retry_seconds=0), max_model_len=-7)
        assert client.health()["started"] is False
        engine = serving(tiny_model, [client], ServerSettings())
        assert client.health()["started"] is True
        engine.load_weights(tiny_model.policy.model.named_parameters(), version=0)
        assert distance(engine.generate(prompts, SAMPLING, step=0), tiny_model) < 1e-4

    def test_weights_that_are_wrong_on_a_server_that_came_back_cost_that_server_alone(
        self, stubs: list[_Stub], vllm_servers: list[Client], tiny_model: toy.LoadedModel, prompts: list[Prompt]
    ) -> None:
        weights = dict(tiny_model.policy.model.named_parameters())
        stub = stubs[0]
        settings = ServerSettings(sync="file", retry_seconds=0.01)
        engine = serving(tiny_model, [stub.client, vllm_servers[0]], settings)
        engine.load_weights(weights.items(), version=0)
        engine.generate(prompts, SAMPLING, step=0)  # it answers nonsense
        assert engine.servers == (vllm_servers[0].url,)
        engine.generate(prompts[:1], SAMPLING, step=1)
        [absent] = engine._roster._absent
        assert absent.trial is not None
        absent.trial.result(10)
        stub.refuses["/weights/check"] = 422
        engine.load_weights(weights.items(), version=1)
        assert engine.failures[1] == f"rollout server {stub.client.url}: no"
        assert distance(engine.generate(prompts, SAMPLING, step=2), tiny_model) < 1e-4
        # Of one that has not failed before it may be the model that vLLM does not take over: that ends the run.
        engine = serving(tiny_model, [stub.client, vllm_servers[0]], settings)
        with pytest.raises(RunError, match=rf"^rollout server {stub.client.url}: no$"):
            engine.load_weights(weights.items(), version=0)
