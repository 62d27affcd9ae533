"""Servers that fail are left out, tried again after waits that double, and taken back when they are ready."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmrl.errors import RunError
from mmrl.rollout import server_roster
from mmrl.rollout.server_client import Client, ServerFailure
from mmrl.rollout.server_roster import LONGEST_WAIT, Member, Roster


class _Ill(BaseHTTPRequestHandler):
    """Answers with the status that its server has at present; keeps who asks /slow waiting."""

    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/slow":
            self.server.asked.set()
            self.server.end.wait(60)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Ill)
        self.status = 200
        self.asked, self.end = threading.Event(), threading.Event()


@pytest.fixture
def servers() -> Iterator[list[_Server]]:
    made = [_Server(), _Server()]
    for server in made:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    for server in made:
        server.end.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=4) as executor:
        yield executor


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(server_roster, "time", clock)
    return clock


def roster(servers: list[_Server], threads: ThreadPoolExecutor, *, retry_seconds: float = 10.0) -> Roster:
    return Roster(
        [Member(client=Client(f"http://127.0.0.1:{server.server_address[1]}")) for server in servers],
        threads=threads,
        start=lambda member: member.client.tell("/start", {}, seconds=10.0),
        retry_seconds=retry_seconds,
    )


def trial(own: Roster) -> bool:
    """Let what is due be tried, to its end; whether something was."""
    own.try_absent()
    begun = [absent.trial for absent in own._absent if absent.trial is not None]
    wait(begun)
    return bool(begun)


def test_a_server_comes_back_once_it_is_well_and_waits_double_until_then(
    servers: list[_Server], threads: ThreadPoolExecutor, clock: Clock
) -> None:
    own = roster(servers, threads)
    ill, well = own.working
    servers[0].status = 500
    own.everywhere(lambda member: member.client.tell("/work", {}, seconds=10.0))
    assert own.working == [well]
    assert len(own.failures) == 1
    assert own.failures[0].startswith(ill.client.url)
    waits = []
    for _ in range(7):
        waited = 0
        while not trial(own):
            clock.now += 5.0
            waited += 5
        own.take_back()
        waits.append(waited)
    assert waits == [10, 20, 40, 80, 160, 160, 160]
    assert max(waits) == 10 * LONGEST_WAIT
    assert own.working == [well]
    servers[0].status = 200
    clock.now += 160.0
    assert trial(own)
    assert own.working == [well]  # not before there are weights for it
    own.take_back()
    assert own.working == [well, ill]
    assert (ill.pair, ill.checked) == (None, False)  # it is given everything anew
    assert own.news[0].endswith("1 left")
    assert own.news[1].startswith(f"a rollout server does not come back: {ill.client.url} failed")
    assert own.news[-1] == f"a rollout server is back: {ill.client.url}; 2 work"


def test_with_none_left_or_no_retries_there_is_nothing_to_wait_for(
    servers: list[_Server], threads: ThreadPoolExecutor, clock: Clock
) -> None:
    own = roster(servers, threads, retry_seconds=0.0)
    own.leave_out(own.working[0], ServerFailure("it died"))
    clock.now += 1e6
    assert not trial(own)
    own.leave_out(own.working[0], ServerFailure("it hung"))
    with pytest.raises(RunError, match=r"no rollout server is left\. What happened: it died; it hung"):
        own.need()


def test_closing_ends_what_waits_for_a_server(servers: list[_Server], threads: ThreadPoolExecutor) -> None:
    """Also for one that is not ours to end: the process must not wait at its end for an answer of minutes."""
    own = roster(servers, threads)
    began = time.monotonic()
    waiting = threads.submit(own.working[0].client.tell, "/slow", {}, seconds=60.0)
    assert servers[0].asked.wait(10)
    own.close()
    with pytest.raises(ServerFailure, match="broke off at /slow"):
        waiting.result(10)
    assert time.monotonic() - began < 10
