"""Which servers work, which have failed, and when those are tried again.

A server that fails is named, ended where it is ours, and left out. After a while it is tried again beside what the
others do: a new process, where it is ours, and vLLM in it. Once it is ready it can be taken back, which is done when
there are weights for it. Waits between trials double, within bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from typing import Any

from mmrl.errors import RunError
from mmrl.rollout.server_client import Client, ServerFailure
from mmrl.rollout.weight_stream import Pair

LONGEST_WAIT = 16  # times retry_seconds, between two trials of a server that does not come back


@dataclass(slots=True, eq=False)
class Member:
    """One server."""

    client: Client
    gpu: int | None = None  # the number of the one it uses; None: it sees what this process sees
    pair: Pair | None = None  # with which it is given weights
    checked: bool = False  # whether weights were seen to arrive
    failures: int = 0  # how often it was left out, or did not come back

    def part(self) -> None:
        """Nothing more is sent to it before it is met again."""
        pair, self.pair = self.pair, None
        if pair is not None:
            pair.close()


@dataclass(slots=True)
class _Absent:
    """A server that was left out."""

    member: Member
    due: float  # seconds of the monotonic clock
    trial: Future[None] | None = None  # under way


class Roster:
    """The servers of one engine. `working` are asked; the others are only tried again."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        threads: Executor,
        start: Callable[[Member], None],
        retry_seconds: float,
    ) -> None:
        """`start`: makes a server ready but for its weights; raises ServerFailure. `retry_seconds`: 0: never again."""
        self.working = list(members)
        self.failures: list[str] = []  # what servers had done that were left out, in order
        self.news: list[str] = []  # a sentence for each that went or came
        self._threads = threads
        self._start = start
        self._retry_seconds = retry_seconds
        self._absent: list[_Absent] = []
        self._closed = False

    def everywhere(self, call: Callable[[Member], Any], members: Sequence[Member] | None = None) -> None:
        """The same on every working server at once, or on these; those that fail are left out."""
        asked = self.working if members is None else members
        under_way = {self._threads.submit(call, member): member for member in asked}
        for future, member in finished(under_way):
            try:
                future.result()
            except ServerFailure as failure:
                self.leave_out(member, failure)
        self.need()

    def leave_out(self, member: Member, failure: ServerFailure) -> None:
        """It is asked no more before it has come back."""
        if member in self.working:
            self.working.remove(member)
            self.failures.append(str(failure))
            self.news.append(f"a rollout server is left out: {failure}; {len(self.working)} left")
            self._send_away(member)

    def need(self) -> None:
        """Raises RunError where no server works."""
        if not self.working:
            raise RunError(
                f"no rollout server is left. What happened: {'; '.join(self.failures) or 'none was given'}. Mend what "
                "the messages say, start servers of your own again, and go on with --resume. See "
                "docs/failures/lost-server.md."
            )

    def try_absent(self) -> None:
        """Begin to bring back those that are due."""
        for absent in self._absent:
            if absent.trial is None and absent.due <= time.monotonic():
                absent.trial = self._threads.submit(self._bring_back, absent.member)

    def take_back(self) -> None:
        """Those that are ready work from now on. To be called where they are given weights next."""
        for absent in [a for a in self._absent if a.trial is not None and a.trial.done()]:
            assert absent.trial is not None
            self._absent.remove(absent)
            member, error = absent.member, absent.trial.exception()
            if error is None:
                self.working.append(member)
                self.news.append(f"a rollout server is back: {member.client.url}; {len(self.working)} work")
            else:
                self.news.append(f"a rollout server does not come back: {error}; it is tried again later")
                self._send_away(member)

    def close(self) -> None:
        """End the servers that are ours, and whatever waits for one."""
        self._closed = True
        for member in [*self.working, *(absent.member for absent in self._absent)]:
            member.client.kill()
            member.part()
        self.working, self._absent = [], []

    def _send_away(self, member: Member) -> None:
        member.client.kill()
        wait = self._retry_seconds * min(2**member.failures, LONGEST_WAIT)
        member.part()
        member.checked = False
        member.failures += 1
        if wait and not self._closed:
            self._absent.append(_Absent(member=member, due=time.monotonic() + wait))

    def _bring_back(self, member: Member) -> None:
        member.client = member.client.again()
        if self._closed:
            member.client.kill()
            return
        self._start(member)


def finished(under_way: dict[Future[Any], Any]) -> Iterator[tuple[Future[Any], Any]]:
    """Each future with what belongs to it, once it is done."""
    for future in as_completed(under_way):
        yield future, under_way[future]
