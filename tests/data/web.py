"""A web server of this machine, for tests: each path has an answer, and who was asked is written down."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[socket.socket], None]


@dataclass
class Web:
    """A running server."""

    port: int
    pages: dict[str, Answer]
    asked: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def sends(body: bytes = b"", *headers: str, status: str = "200 OK", type_: str = "image/png") -> Answer:
    """The whole answer at once; Content-Length unless a header names a transfer encoding or a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {type_}", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    whole = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
    return lambda connection: connection.sendall(whole)


def leads_to(address: str, status: int = 302) -> Answer:
    return sends(b"", f"Location: {address}", status=f"{status} Found")


def trickles(start: bytes, piece: bytes = b"x", seconds: float = 0.02) -> Answer:
    """Sends `start`, then a piece at a time for as long as somebody listens."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            time.sleep(seconds)
            connection.sendall(piece)

    return answer


@contextmanager
def serving(
    pages: dict[str, Answer], host: str = "127.0.0.1", wrap: Callable[[socket.socket], socket.socket] = lambda s: s
) -> Iterator[Web]:
    """`wrap`: what is done with an accepted connection first, such as TLS."""
    with socket.create_server((host, 0)) as listening:
        web = Web(listening.getsockname()[1], pages)
        open_ones: list[socket.socket] = []

        def serve(accepted: socket.socket) -> None:
            with suppress(OSError):
                connection = wrap(accepted)
                open_ones.append(connection)
                received = b""
                while b"\r\n\r\n" not in received:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    received += piece
                path = received.split()[1].decode()
                web.asked.append(path)
                web.requests.append(received)
                web.pages.get(path, sends(b"no such page", status="404 Not Found", type_="text/plain"))(connection)
                connection.close()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    open_ones.append(connection)
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield web
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            for connection in open_ones:
                connection.close()
