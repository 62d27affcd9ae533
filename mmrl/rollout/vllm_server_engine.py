"""Sampling with vLLM servers: several behind one engine, on other GPUs or machines.

generate      prompts divided by load over the servers → answers checked → groups
a failure     the server is named and left out; its prompts go to the others, and on to nobody once they have been at
              two servers that failed; without a server left the run ends
weights       to all servers at once over process groups; by a file where no group can be formed
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmrl.errors import RunError
from mmrl.policy.policy import Policy
from mmrl.rollout.asked import Asked, Asker
from mmrl.rollout.completions import Written, banned_ids, end_ids, rollout_groups
from mmrl.rollout.engine import Sampling
from mmrl.rollout.server_client import Client, ServerFailure
from mmrl.rollout.vllm_engine import write_architecture
from mmrl.rollout.vllm_sampler import VllmSettings
from mmrl.rollout.weight_check import Fingerprint, watched
from mmrl.rollout.weight_stream import Bucket, Pair, buckets, send, write_file
from mmrl.rollout.wire import Garbled, answered, packed, prints, request
from mmrl.types import Dropped, Prompt, RolloutGroup

MOST_ATTEMPTS = 2  # servers that may fail with a prompt before it is dropped: it may be what makes them fail
JOIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How the servers are used."""

    sync: Literal["group", "file"] = "group"  # how weights get there; file: where no process group can be formed
    folder: Path | None = None  # of that file, which every server must be able to read; None: a temporary one
    address: str = "127.0.0.1"  # of this machine, as the servers see it
    start_seconds: float = 600.0  # until vLLM is ready
    generate_seconds: float = 600.0  # for one call's share of one server
    sync_seconds: float = 300.0
    gpus: tuple[int, ...] = ()  # for the servers in order; empty: each sees what this process sees


@dataclass(slots=True)
class _Member:
    """One server that has not failed."""

    client: Client
    pair: Pair | None = None


@dataclass(slots=True)
class _Task:
    """One prompt on its way."""

    asked: Asked
    failed: list[str] = field(default_factory=list)  # what the servers that had it said


class VllmServerEngine:
    """Samples from copies of the policy's weights on servers. Nothing is sampled before `load_weights`."""

    def __init__(
        self,
        policy: Policy,
        processor: Any,
        clients: Sequence[Client],
        *,
        run_seed: int,
        vllm: VllmSettings,
        settings: ServerSettings,
    ) -> None:
        """Starts vLLM on every server. Raises RunError where none comes up, ConfigError where vLLM is not installed."""
        self._asker = Asker(policy.family, policy.config, run_seed=run_seed)
        self._tokenizer = processor.tokenizer
        self._end = end_ids(policy, processor.tokenizer)
        self._vocabulary = int(policy.config.get_text_config().vocab_size)
        self._dtype = getattr(torch, vllm.dtype)
        self._device = vllm.device
        self._settings = settings
        self._version = 0
        self._checked = False
        self._dropped: list[Dropped] = []
        self._members = [_Member(client=client) for client in clients]
        self._failures: list[str] = []
        self._sync = settings.sync
        self._news: list[str] = []
        self._threads = ThreadPoolExecutor(max_workers=2 * len(clients) + 1, thread_name_prefix="rollout-server")
        self._scratch = tempfile.TemporaryDirectory(prefix="mmrl-weights-")
        try:
            self._start(policy, processor, vllm)
        except BaseException:
            self.close()
            raise

    @property
    def failures(self) -> tuple[str, ...]:
        """What the servers that were left out had done, in order."""
        return tuple(self._failures)

    @property
    def servers(self) -> tuple[str, ...]:
        """Addresses of those that work."""
        return tuple(member.client.url for member in self._members)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        """A prompt that was lost with its servers has no group; `take_dropped` says which and why."""
        if not prompts:
            return []
        counts = list(sizes) if sizes is not None else [sampling.group_size] * len(prompts)
        asked = self._asker.ask(prompts, counts, sampling, step=step)
        written = self._sample(asked, sampling)
        kept = [i for i in range(len(prompts)) if i in written]
        return rollout_groups(
            [prompts[i] for i in kept],
            [written[i] for i in kept],
            [asked[i].seeds for i in kept],
            tokenizer=self._tokenizer,
            end=self._end,
            sampling=sampling,
            version=self._version,
        )

    def take_dropped(self) -> list[Dropped]:
        """The prompts that were lost since the last call."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def take_notices(self) -> list[str]:
        """Servers that were left out, and other ways that had to be taken, since the last call."""
        news, self._news = self._news, []
        return news

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        """Raises RunError where no server is left, or where one did not take over what it was sent."""
        seen: dict[str, Fingerprint] = {}
        new = weights if self._checked else watched(weights, self._dtype, seen)
        if self._sync == "group":
            self._join()
        if self._sync == "group":
            self._over_groups(new, version)
        else:
            self._by_file(new, version)
        if not self._checked:
            body = prints(seen)
            self._everywhere(lambda m: m.client.post("/weights/check", body, seconds=self._settings.sync_seconds))
            self._checked = True
        self._version = version

    def close(self) -> None:
        """End the servers that are ours."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for member in self._members:
            member.pair = None
            member.client.kill()
        self._members = []
        self._scratch.cleanup()

    # ── starting ──

    def _start(self, policy: Policy, processor: Any, vllm: VllmSettings) -> None:
        with tempfile.TemporaryDirectory(prefix="mmrl-vllm-") as folder:
            write_architecture(policy, processor, Path(folder))
            files = {p.name: torch.frombuffer(bytearray(p.read_bytes()), dtype=torch.uint8) for p in _files(folder)}
        gpus = self._settings.gpus
        numbers = {id(member): gpus[n] if n < len(gpus) else None for n, member in enumerate(self._members)}
        message = {
            "settings": asdict(replace(vllm, sleeps=False)),
            "banned": banned_ids(policy, processor.tokenizer),
            "end": self._end,
        }
        self._everywhere(
            lambda m: m.client.post(
                "/start",
                packed({**message, "gpu": numbers[id(m)]}, files),
                seconds=self._settings.start_seconds,
            )
        )

    # ── sampling ──

    def _sample(self, asked: Sequence[Asked], sampling: Sampling) -> dict[int, list[Written]]:
        done: dict[int, list[Written]] = {}
        left = {i: _Task(asked=ask) for i, ask in enumerate(asked)}
        while left:
            self._need_servers()
            under_way = {
                self._threads.submit(self._ask, member, [left[i].asked for i in share], sampling): (member, share)
                for member, share in zip(self._members, _shares(left, len(self._members)), strict=True)
                if share
            }
            for future, (member, share) in _finished(under_way):
                try:
                    answers = future.result()
                except ServerFailure as failure:
                    self._leave_out(member, failure)
                    for i in share:
                        left[i].failed.append(str(failure))
                else:
                    done.update(zip(share, answers, strict=True))
                    for i in share:
                        del left[i]
            self._drop_hopeless(left)
        return done

    def _ask(self, member: _Member, asked: Sequence[Asked], sampling: Sampling) -> list[list[Written]]:
        data = member.client.post("/generate", request(asked, sampling), seconds=self._settings.generate_seconds)
        try:
            return answered(data, asked, sampling, version=self._version, vocabulary=self._vocabulary)
        except Garbled as error:
            raise ServerFailure(f"{member.client.url} answers garbage: {error}") from error

    def _drop_hopeless(self, left: dict[int, _Task]) -> None:
        for i in [i for i, task in left.items() if len(task.failed) >= MOST_ATTEMPTS and self._members]:
            task = left.pop(i)
            self._dropped.append(
                Dropped(
                    sample_id=task.asked.name,
                    stage="rollout",
                    reason="servers failed",
                    detail=f"was at {len(task.failed)} servers that failed: {'; '.join(task.failed)}",
                )
            )

    # ── weights ──

    def _over_groups(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        members = list(self._members)
        limit = self._settings.sync_seconds
        replies = {
            id(m): self._threads.submit(m.client.tell, "/weights/receive", {"version": version}, seconds=limit)
            for m in members
        }
        for bucket in _and_end(buckets(weights)):
            for member, error in zip(members, send(bucket, [m.pair for m in members if m.pair]), strict=True):
                if error is not None:
                    self._leave_out(member, ServerFailure(f"{member.client.url} does not take weights ({error})"))
            members = [m for m in members if m in self._members]
            self._need_servers()
        for member in members:
            try:
                replies[id(member)].result()
            except ServerFailure as failure:
                self._leave_out(member, failure)
        self._need_servers()

    def _join(self) -> None:
        """A process group with each server that has none yet. Where one cannot be formed, weights go by file from now
        on, to all: a server that does not answer either is found then.
        """
        for member in [m for m in self._members if m.pair is None]:
            try:
                member.pair = self._met(member.client)
            except (RuntimeError, TimeoutError, ServerFailure) as error:
                self._sync = "file"
                self._news.append(
                    f"{member.client.url} forms no process group with this machine ({error}): weights go by file"
                )
                return

    def _met(self, client: Client) -> Pair:
        pair = Pair(
            rank=0,
            host=self._settings.address,
            port=0,
            device=self._device,
            join_seconds=JOIN_SECONDS,
            seconds=self._settings.sync_seconds,
        )
        message = {
            "host": self._settings.address,
            "port": pair.port,
            "device": self._device,
            "join_seconds": JOIN_SECONDS,
            "seconds": self._settings.sync_seconds,
        }
        client.tell("/weights/meet", message, seconds=2 * JOIN_SECONDS)
        joined = self._threads.submit(client.tell, "/weights/join", {}, seconds=2 * JOIN_SECONDS)
        self._threads.submit(pair.join).result(timeout=2 * JOIN_SECONDS)
        joined.result()
        return pair

    def _by_file(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        path = Path(self._settings.folder or self._scratch.name) / f"weights-{version}.safetensors"
        write_file(weights, path)
        try:
            message = {"path": str(path.absolute()), "version": version}
            self._everywhere(lambda m: m.client.tell("/weights/file", message, seconds=self._settings.sync_seconds))
        finally:
            path.unlink(missing_ok=True)

    # ── servers ──

    def _everywhere(self, call: Any) -> None:
        """The same on every server at once; those that fail are left out."""
        under_way = {self._threads.submit(call, member): (member, ()) for member in self._members}
        for future, (member, _) in _finished(under_way):
            try:
                future.result()
            except ServerFailure as failure:
                self._leave_out(member, failure)
        self._need_servers()

    def _leave_out(self, member: _Member, failure: ServerFailure) -> None:
        if member in self._members:
            self._members.remove(member)
            self._failures.append(str(failure))
            self._news.append(f"a rollout server is left out: {failure}; {len(self._members)} left")
            member.pair = None
            member.client.kill()

    def _need_servers(self) -> None:
        if not self._members:
            raise RunError(
                f"no rollout server is left. What happened: {'; '.join(self._failures) or 'none was given'}. Mend what "
                "the messages say, start servers of your own again, and go on with --resume."
            )


def _shares(left: dict[int, _Task], count: int) -> list[list[int]]:
    """The prompts divided over so many servers: the largest first, each to the one with the least to do."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for i in sorted(left, key=lambda i: -left[i].asked.load):
        least = loads.index(min(loads))
        shares[least].append(i)
        loads[least] += left[i].asked.load
    return [sorted(share) for share in shares]


def _finished(under_way: dict[Future[Any], Any]) -> Iterator[tuple[Future[Any], Any]]:
    """Each future with what belongs to it, once it is done."""
    for future in as_completed(under_way):
        yield future, under_way[future]


def _and_end(items: Iterable[Bucket]) -> Iterator[Bucket]:
    """The buckets, and the empty one that ends the stream."""
    yield from items
    yield []


def _files(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).iterdir() if path.is_file())
