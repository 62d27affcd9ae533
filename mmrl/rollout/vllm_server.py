"""A server that samples: vLLM in a process of its own, on this machine or another, spoken to over HTTP.

    POST /start            architecture, settings → ready; the same again keeps what runs
    POST /weights/meet     where the trainer listens        POST /weights/join  form a process group with it
    POST /weights/receive  take weights from it             POST /weights/file   … from a file
    POST /weights/check    fingerprints → all arrived
    POST /generate         prompts → completions
    GET  /health           version of the weights, whether it is at work

Bodies are messages of `wire.py`. It serves one trainer. What vLLM does is done in one thread; health is answered
beside it.

Not vLLM's own HTTP server, because of three things that one does not offer (0.32): masks for clips whose visual tokens
have text between them, both log-probabilities of a token, and weights over gloo, without which none of this could be
tested on a CPU. And because with the trainer's own sampler (`vllm_sampler.py`) both ways of running vLLM are one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mmrl.child import connected
from mmrl.errors import RunError
from mmrl.rollout.vllm_sampler import VllmSampler, VllmSettings
from mmrl.rollout.weight_stream import Pair, read_file, received
from mmrl.rollout.wire import Garbled, answer, packed, printed, requested, unpacked

OURS = 422  # the request cannot be served by any server: the message says why
BROKEN = 500  # this server failed, or cannot do it as it is: never started, say, because it was itself started again


class Refused(Exception):
    """The request's own fault. Any server would say the same."""


class Service:
    """What the endpoints do. `handle` may be called from any thread."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vllm")
        self._sampler: VllmSampler | None = None
        self._started: bytes = b""
        self._pair: Pair | None = None
        self._version = -1
        self._busy = 0
        self._calls = {
            "/start": self._start,
            "/weights/meet": self._meet,
            "/weights/join": self._join,
            "/weights/receive": self._receive,
            "/weights/file": self._file,
            "/weights/check": self._check,
            "/generate": self._generate,
        }

    def health(self) -> dict[str, Any]:
        """Answered at once, whatever goes on."""
        return {"started": self._sampler is not None, "version": self._version, "busy": self._busy}

    def handle(self, path: str, body: bytes) -> bytes:
        """One request, after those before it. Raises KeyError for an unknown path, Refused and Garbled for what is the
        request's fault, anything else for what is this server's.
        """
        call = self._calls[path]
        self._busy += 1
        try:
            return self._worker.submit(call, body).result()
        finally:
            self._busy -= 1

    def knows(self, path: str) -> bool:
        """Whether there is such an endpoint."""
        return path in self._calls

    def _start(self, body: bytes) -> bytes:
        if body != self._started or self._sampler is None:
            self._end()
            message, files = unpacked(body)
            if message["gpu"] is not None:  # before anything here has asked for a GPU
                os.environ["CUDA_VISIBLE_DEVICES"] = str(message["gpu"])
            with tempfile.TemporaryDirectory(prefix="mmrl-vllm-") as folder:
                for name, data in files.items():
                    (Path(folder) / Path(name).name).write_bytes(bytes(data.numpy()))
                self._sampler = VllmSampler(
                    Path(folder),
                    VllmSettings(**message["settings"]),
                    banned=message["banned"],
                    end=message["end"],
                )
            self._started = body
        self._version = -1
        return packed({}, {})

    def _meet(self, body: bytes) -> bytes:
        message, _ = unpacked(body)
        self._part()
        self._pair = Pair(
            rank=1,
            host=message["host"],
            port=message["port"],
            device=message["device"],
            join_seconds=message["join_seconds"],
            seconds=message["seconds"],
        )
        return packed({}, {})

    def _join(self, body: bytes) -> bytes:
        self._met.join()
        return packed({}, {})

    def _receive(self, body: bytes) -> bytes:
        return self._load(received(self._met), unpacked(body)[0]["version"])

    def _file(self, body: bytes) -> bytes:
        message, _ = unpacked(body)
        return self._load(read_file(Path(message["path"])), message["version"])

    def _load(self, weights: Any, version: int) -> bytes:
        self._version = -1  # until they are all there
        try:
            self._running.load_weights(weights, check=False)
        except BaseException as error:
            self._give_up(error)
            raise
        self._version = version
        return packed({}, {})

    def _check(self, body: bytes) -> bytes:
        sampler, sent = self._running, printed(body)
        try:
            sampler.check_weights(sent)
        except RunError as error:  # of this model with this vLLM, or of this server alone: the trainer can tell
            self._give_up(error)
            raise Refused(str(error)) from error
        except BaseException as error:
            self._give_up(error)
            raise
        return packed({}, {})

    def _generate(self, body: bytes) -> bytes:
        asked, sampling = requested(body)
        sampler = self._running
        try:
            written = sampler.sample(asked, sampling)
        except RunError as error:  # a prompt that cannot be served
            raise Refused(str(error)) from error
        except BaseException:
            self._started = b""  # the next start begins afresh
            raise
        return answer(written, version=self._version)

    def _give_up(self, error: BaseException) -> None:
        """A vLLM that has half of its weights is not kept. The trainer, who may still be sending, notices; last, since
        what it is answered then says more than a connection that broke.
        """
        try:
            self._end()
        except Exception as another:
            error.add_note(f"and vLLM did not end in order: {type(another).__name__}: {another}")
        self._part()

    def _part(self) -> None:
        pair, self._pair = self._pair, None
        if pair is not None:
            pair.close()

    def _end(self) -> None:
        """Whatever comes of it, nothing is kept."""
        sampler, self._sampler, self._started, self._version = self._sampler, None, b"", -1
        if sampler is not None:
            sampler.close()

    @property
    def _met(self) -> Pair:
        if self._pair is None:
            raise RunError("the server has not met the trainer")
        return self._pair

    @property
    def _running(self) -> VllmSampler:
        if self._sampler is None:
            raise RunError("the server was not started with a model")
        return self._sampler


class _Handler(BaseHTTPRequestHandler):
    """Bytes in, bytes out."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        if self.path != "/health":
            self._reply(404, b"")
            return
        self._reply(200, json.dumps(self.server.service.health()).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.server.service.knows(self.path):
            self._reply(404, b"")
            return
        try:
            answered = self.server.service.handle(self.path, body)
        except (Refused, Garbled) as error:
            self._reply(OURS, str(error).encode())
        except Exception as error:  # whatever vLLM raises: the trainer is told, and goes on without this server
            sys.stderr.write(f"POST {self.path} failed:\n{''.join(traceback.format_exception(error))}")
            self._reply(BROKEN, f"{type(error).__name__}: {error}".encode())
        else:
            self._reply(200, answered)

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing of requests that are well."""


class Server(ThreadingHTTPServer):
    """Listens as soon as it is made."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), _Handler)
        self.service = Service()


def serve_child(descriptor: int) -> None:
    """For `mmrl.child.Child`: serve this machine on a free port, which is told to the parent, until the parent ends."""
    connection = connected(descriptor)
    server = Server("127.0.0.1", 0)
    connection.send(server.server_address[1])
    server.serve_forever()
