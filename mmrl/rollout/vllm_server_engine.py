"""Sampling with vLLM servers: several behind one engine, on other GPUs or machines.

generate      prompts divided by load over the servers → answers checked → groups
a failure     the server is named and left out; its prompts go to the others, and on to nobody once they have been at
              two servers that failed; without a server left the run ends. A server that was left out is tried again
              after a while, beside the others' work, and is back with the next weights
weights       to all servers at once over process groups; by a file where no server can form one
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from mmrl.rollout.server_roster import Member, Roster, finished
from mmrl.rollout.vllm_engine import write_architecture
from mmrl.rollout.vllm_sampler import VllmSettings
from mmrl.rollout.weight_check import Fingerprint, watched
from mmrl.rollout.weight_stream import Bucket, Pair, Taker, buckets, send, write_file
from mmrl.rollout.wire import Garbled, answered, packed, prints, request
from mmrl.types import Dropped, Prompt, RolloutGroup

MOST_ATTEMPTS = 2  # servers that may fail with a prompt before it is dropped: it may be what makes them fail
JOIN_SECONDS = 30.0
SERVER_PATIENCE = (
    2  # times sync_seconds, that a server waits for a tensor: so long as the trainer may for another server
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How the servers are used."""

    sync: Literal["group", "file"] = "group"  # how weights get there
    folder: Path | None = None  # of that file, which every server must be able to read; None: a temporary one
    address: str = "127.0.0.1"  # of this machine, as the servers see it
    start_seconds: float = 600.0  # until vLLM is ready
    generate_seconds: float = 600.0  # for one call's share of one server
    sync_seconds: float = 300.0  # for taking weights: what one server may keep the others waiting, in all
    retry_seconds: float = 60.0  # until one that failed is tried again, then twice that, …; 0: never
    gpus: tuple[int, ...] = ()  # for the servers in order; empty: each sees what this process sees


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
        """Starts vLLM on every server. Raises RunError where none comes up."""
        self._asker = Asker(policy.family, policy.config, run_seed=run_seed)
        self._tokenizer = processor.tokenizer
        self._end = end_ids(policy, processor.tokenizer)
        self._vocabulary = int(policy.config.get_text_config().vocab_size)
        self._dtype = getattr(torch, vllm.dtype)
        # By number, for the threads in which servers are met begin at GPU 0.
        self._device = vllm.device if vllm.device != "cuda" else f"cuda:{torch.cuda.current_device()}"
        self._settings = settings
        self._version = 0
        self._dropped: list[Dropped] = []
        gpus = [*settings.gpus, *[None] * len(clients)]
        self._sync = settings.sync
        self._threads = ThreadPoolExecutor(max_workers=3 * len(clients) + 1, thread_name_prefix="rollout-server")
        self._roster = Roster(
            [Member(client=client, gpu=gpu) for client, gpu in zip(clients, gpus, strict=False)],
            threads=self._threads,
            start=self._start_one,
            retry_seconds=settings.retry_seconds,
        )
        self._scratch = tempfile.TemporaryDirectory(prefix="mmrl-weights-")
        try:
            self._start(policy, processor, vllm)
        except BaseException:
            self.close()
            raise

    @property
    def failures(self) -> tuple[str, ...]:
        """What the servers that were left out had done, in order."""
        return tuple(self._roster.failures)

    @property
    def servers(self) -> tuple[str, ...]:
        """Addresses of those that work."""
        return tuple(member.client.url for member in self._roster.working)

    def metrics(self) -> dict[str, float]:
        """How many servers are at work."""
        return {"rollout/servers": float(len(self._roster.working))}

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        """A prompt that was lost with its servers has no group; `take_dropped` says which and why."""
        if not prompts:
            return []
        self._roster.try_absent()
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
        news, self._roster.news = self._roster.news, []
        return news

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        """Raises RunError where no server is left, or where one did not take over what it was sent."""
        self._roster.try_absent()
        self._roster.take_back()
        seen: dict[str, Fingerprint] = {}
        new = weights if all(m.checked for m in self._roster.working) else watched(weights, self._dtype, seen)
        if self._sync == "group":
            self._join()
        if self._sync == "group":
            self._over_groups(new, version)
        else:
            self._by_file(new, version)
        self._check(prints(seen))
        self._version = version

    def close(self) -> None:
        """End the servers that are ours."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._roster.close()
        self._scratch.cleanup()

    # ── starting ──

    def _start(self, policy: Policy, processor: Any, vllm: VllmSettings) -> None:
        with tempfile.TemporaryDirectory(prefix="mmrl-vllm-") as folder:
            write_architecture(policy, processor, Path(folder))
            files = {p.name: torch.frombuffer(bytearray(p.read_bytes()), dtype=torch.uint8) for p in _files(folder)}
        message = {
            "settings": asdict(replace(vllm, sleeps=False)),
            "banned": banned_ids(policy, processor.tokenizer),
            "end": self._end,
        }
        self._start_request = lambda gpu: packed({**message, "gpu": gpu}, files)
        self._roster.everywhere(self._start_one)

    def _start_one(self, member: Member) -> None:
        member.client.post("/start", self._start_request(member.gpu), seconds=self._settings.start_seconds)

    # ── sampling ──

    def _sample(self, asked: Sequence[Asked], sampling: Sampling) -> dict[int, list[Written]]:
        done: dict[int, list[Written]] = {}
        left = {i: _Task(asked=ask) for i, ask in enumerate(asked)}
        while left:
            self._roster.need()
            under_way = {
                self._threads.submit(self._ask, member, [left[i].asked for i in share], sampling): (member, share)
                for member, share in zip(self._roster.working, _shares(left, len(self._roster.working)), strict=True)
                if share
            }
            for future, (member, share) in finished(under_way):
                try:
                    answers = future.result()
                except ServerFailure as failure:
                    self._roster.leave_out(member, failure)
                    for i in share:
                        left[i].failed.append(str(failure))
                else:
                    done.update(zip(share, answers, strict=True))
                    for i in share:
                        del left[i]
            self._drop_hopeless(left)
        return done

    def _ask(self, member: Member, asked: Sequence[Asked], sampling: Sampling) -> list[list[Written]]:
        data = member.client.post("/generate", request(asked, sampling), seconds=self._settings.generate_seconds)
        try:
            return answered(data, asked, sampling, version=self._version, vocabulary=self._vocabulary)
        except Garbled as error:
            raise ServerFailure(f"{member.client.url} answers garbage: {error}") from error

    def _drop_hopeless(self, left: dict[int, _Task]) -> None:
        for i in [i for i, task in left.items() if len(task.failed) >= MOST_ATTEMPTS and self._roster.working]:
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
        limit = self._settings.sync_seconds
        longest = (len(self._roster.working) + 3) * limit  # the trainer gives up before; this is for the thread's sake
        takers = {
            m: Taker(
                pair=m.pair,
                reply=self._threads.submit(m.client.tell, "/weights/receive", {"version": version}, seconds=longest),
                seconds=limit,
            )
            for m in self._roster.working
            if m.pair is not None
        }
        for bucket in _and_end(buckets(weights)):
            members = [m for m in takers if m in self._roster.working]
            for member, error in zip(members, send(bucket, [takers[m] for m in members]), strict=True):
                if error is not None:
                    self._roster.leave_out(member, _untaken(member, error))
            self._roster.need()
        until = time.monotonic() + limit
        for member in [m for m in takers if m in self._roster.working]:
            try:
                takers[member].reply.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                late = TimeoutError(f"it was not done with them {limit:g} seconds after it had them all")
                self._roster.leave_out(member, _untaken(member, late))
            except (ServerFailure, RunError) as error:
                self._roster.leave_out(member, _untaken(member, error))
        self._roster.need()

    def _join(self) -> None:
        """A process group with each server that has none yet. Who forms none is left out, unless none does: then
        weights go by file from now on, where all can read it. Raises RunError.
        """
        meetings = {self._threads.submit(self._met, m.client): m for m in self._roster.working if m.pair is None}
        failed: dict[Member, str] = {}
        for meeting, member in finished(meetings):
            try:
                member.pair = meeting.result()
            except (RuntimeError, ServerFailure) as error:
                failed[member] = f"{member.client.url} forms no process group with this machine ({error})"
        if not failed:
            return
        if len(failed) < len(self._roster.working):
            for member, why in failed.items():
                self._roster.leave_out(member, ServerFailure(why))
            return
        told = "; ".join(failed.values())
        if self._settings.folder is None and not all(m.client.local for m in failed):
            raise RunError(
                f"weights reach no rollout server: {told}. The servers connect to this machine at "
                f"rollout.servers.address, {self._settings.address!r} now: set it to an address of this machine that "
                "they reach, at any port; or set rollout.servers.folder to a folder that this machine and all servers "
                "share, and weights go by file. See docs/rollouts.md."
            )
        self._sync = "file"
        self._roster.news.append(f"{told}: weights go by file")

    def _met(self, client: Client) -> Pair:
        address, seconds = self._settings.address, self._settings.sync_seconds
        pair = Pair(rank=0, host=address, port=0, device=self._device, join_seconds=JOIN_SECONDS, seconds=seconds)
        message = {
            "host": address,
            "port": pair.port,
            "device": self._device.partition(":")[0],
            "join_seconds": JOIN_SECONDS,
            "seconds": SERVER_PATIENCE * seconds,
        }
        try:
            client.tell("/weights/meet", message, seconds=2 * JOIN_SECONDS)
            joined = self._threads.submit(client.tell, "/weights/join", {}, seconds=3 * JOIN_SECONDS)
            try:
                pair.join()
            finally:
                if joined.done():
                    joined.result()  # what it says itself comes first
            joined.result()
        except BaseException:
            pair.close()
            raise
        return pair

    def _check(self, sent: bytes) -> None:
        """See that weights arrived where that was not seen yet. What one server says of them ends the run, unless
        others have them right and it is one that had failed.
        """
        limit = self._settings.sync_seconds
        checks = {
            self._threads.submit(m.client.post, "/weights/check", sent, seconds=limit): m
            for m in self._roster.working
            if not m.checked
        }
        wrong: dict[Member, RunError] = {}
        for check, member in finished(checks):
            try:
                check.result()
            except ServerFailure as failure:
                self._roster.leave_out(member, failure)
            except RunError as error:
                wrong[member] = error
            else:
                member.checked = True
        for member, refusal in wrong.items():
            if not member.failures or not any(m.checked for m in self._roster.working):
                raise refusal
            self._roster.leave_out(member, ServerFailure(str(refusal)))
        self._roster.need()

    def _by_file(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        path = Path(self._settings.folder or self._scratch.name) / f"weights-{version}.safetensors"
        write_file(weights, path)
        try:
            message = {"path": str(path.absolute()), "version": version}
            self._roster.everywhere(
                lambda m: m.client.tell("/weights/file", message, seconds=self._settings.sync_seconds)
            )
        finally:
            path.unlink(missing_ok=True)


def _shares(left: dict[int, _Task], count: int) -> list[list[int]]:
    """The prompts divided over so many servers: the largest first, each to the one with the least to do."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for i in sorted(left, key=lambda i: -left[i].asked.load):
        least = loads.index(min(loads))
        shares[least].append(i)
        loads[least] += left[i].asked.load
    return [sorted(share) for share in shares]


def _untaken(member: Member, error: Exception) -> ServerFailure:
    """Why a server is left out that did not take its weights; it is named once."""
    if isinstance(error, ServerFailure):
        return error
    return ServerFailure(f"{member.client.url} does not take weights ({error})")


def _and_end(items: Iterable[Bucket]) -> Iterator[Bucket]:
    """The buckets, and the empty one that ends the stream."""
    yield from items
    yield []


def _files(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).iterdir() if path.is_file())
