"""The trainer's end of one server: every wait is bounded, and a failure names the server."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from mmrl.child import Child, exit_text
from mmrl.errors import ConfigError, RunError
from mmrl.rollout.vllm_server import OURS
from mmrl.rollout.wire import packed

PIECE = 2**20
START_SECONDS = 180.0  # until a process of ours listens


class ServerFailure(Exception):
    """A server died, hung or answered garbage. The message names it."""


class Client:
    """One server."""

    def __init__(self, url: str, *, child: Child | None = None) -> None:
        """`url`: http://host:port. `child`: the process, where it is ours."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ConfigError(f"rollout.servers.urls: {url!r} is not of the form http://host:port.")
        self.url = url
        self.host = parts.hostname
        self._port = parts.port
        self._child = child
        self._calls: set[http.client.HTTPConnection] = set()  # under way

    @property
    def local(self) -> bool:
        """Whether it runs on this machine."""
        return self._child is not None or self.host in ("localhost", "127.0.0.1", "::1")

    def post(self, path: str, body: bytes, *, seconds: float) -> bytes:
        """The answer's body. Raises ServerFailure, and RunError where the request itself is at fault."""
        status, answer = self._call("POST", path, body, seconds)
        if status == OURS:
            raise RunError(f"rollout server {self.url}: {answer.decode(errors='replace')}")
        if status != 200:
            raise ServerFailure(f"{self.url} failed: {answer[:400].decode(errors='replace')}")
        return answer

    def tell(self, path: str, message: dict[str, Any], *, seconds: float) -> None:
        """`post` a message without tensors; the answer does not matter."""
        self.post(path, packed(message, {}), seconds=seconds)

    def health(self, *, seconds: float = 5.0) -> dict[str, Any]:
        """What it says of itself."""
        status, answer = self._call("GET", "/health", b"", seconds)
        try:
            found = json.loads(answer)
        except ValueError as error:
            raise ServerFailure(f"{self.url} answers /health with garbage") from error
        if status != 200 or not isinstance(found, dict):
            raise ServerFailure(f"{self.url} answers /health with status {status}")
        return found

    def kill(self) -> None:
        """End the process, where it is ours, and whatever waits for its answer."""
        if self._child is not None:
            self._child.kill()
        for connection in list(self._calls):
            if connection.sock is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def again(self) -> Client:
        """The same server once more: a new process, where it is ours. Raises RunError where none starts."""
        if self._child is None:
            return self
        self.kill()
        return started_here(1)[0]

    def _call(self, method: str, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
        until = time.monotonic() + seconds
        connection = http.client.HTTPConnection(self.host, self._port, timeout=seconds)
        self._calls.add(connection)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            pieces = []
            while piece := response.read1(PIECE):
                pieces.append(piece)
                if time.monotonic() > until:
                    raise TimeoutError
            return response.status, b"".join(pieces)
        except TimeoutError as error:
            raise ServerFailure(f"{self.url} did not answer {path} within {seconds:g} seconds") from error
        except (OSError, http.client.HTTPException) as error:
            raise ServerFailure(f"{self.url} {self._ended()}at {path} ({type(error).__name__}: {error})") from error
        finally:
            self._calls.discard(connection)
            connection.close()

    def _ended(self) -> str:
        if self._child is None or self._child.process.poll() is None:
            return "broke off "
        return f"ended with {exit_text(self._child.process.returncode)} "


def started_here(count: int) -> list[Client]:
    """Servers of our own on this machine, listening; they end with this process. Raises RunError."""
    children = [Child("mmrl.rollout.vllm_server:serve_child") for _ in range(count)]
    clients = []
    for child in children:
        if not child.connection.poll(START_SECONDS):
            raise RunError(f"a rollout server did not start within {START_SECONDS:g} seconds")
        try:
            port = child.connection.recv()
        except EOFError as error:
            raise RunError(f"a rollout server ended at its start with {exit_text(child.kill())}") from error
        clients.append(Client(f"http://127.0.0.1:{port}", child=child))
    return clients
