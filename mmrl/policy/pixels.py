"""The only copy of each prompt's pixels: preprocessed once, kept while there is room, prepared ahead on request.

    store.get(sample.media, …)     now; waits where the same media are being prepared already
    store.prepare([media, …])      in the background, while the model computes

Preparing ahead is a hint: what it finds is what `get` would have found, and an error waits until `get` asks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from threadpoolctl import threadpool_limits

from mmrl.data.images import BrokenMedia
from mmrl.data.quarantine import Quarantine
from mmrl.policy.preprocess import Preprocessed
from mmrl.types import Media, Prompt, Sample, VisionInputs

Key = tuple[Media, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """The media of one prompt."""

    items: tuple[Preprocessed, ...]  # in order; their patches are parts of `vision.patches`
    vision: VisionInputs
    prompts: dict[str, tuple[Sample, Prompt]]  # sample id → what was rendered with these pixels


class PixelStore:
    """Preprocessed media by what they are, least recently used first out. Any thread may use it."""

    def __init__(
        self, preprocess: Callable[[Media], Preprocessed], quarantine: Quarantine, *, capacity_bytes: int
    ) -> None:
        self._preprocess = preprocess
        self._quarantine = quarantine
        self._capacity = capacity_bytes
        self._kept: OrderedDict[Key, Pixels] = OrderedDict()
        self._making: dict[Key, Future[Pixels]] = {}
        self._users: dict[int, int] = {}  # address of a tensor's memory → entries that lie in it
        self._held = 0  # bytes of them
        self._lock = threading.Lock()
        self._ahead: ThreadPoolExecutor | None = None
        self._hint = 0  # grows with each `prepare`: what a former one has not begun is forgotten

    def get(self, key: Key, *, sample_id: str) -> Pixels:
        """The pixels of these media. Raises BrokenMedia (remembered in the quarantine) and DataError."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            making = self._making.get(key)
            if making is None:
                ours: Future[Pixels] = Future()
                self._making[key] = ours
        if making is not None:
            return making.result()
        try:
            made = self._make(key, sample_id)
        except BaseException as error:
            with self._lock:
                del self._making[key]
            ours.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._keep(key, made)
        ours.set_result(made)
        return made

    def prepare(self, wanted: Sequence[tuple[str, Key]]) -> None:
        """(sample id, media) that `get` will probably be asked for next, in that order. Returns at once.

        Prepares at most half of the store, so that what is in use stays.
        """
        with self._lock:
            self._hint += 1
            hint = self._hint
            todo = [(id_, key) for id_, key in wanted if key and key not in self._kept and key not in self._making]
        if todo:
            if self._ahead is None:
                self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="media", initializer=_compute_alone)
            self._ahead.submit(self._prepare, todo, hint)

    def close(self) -> None:
        """Wait for what is being prepared and forget the rest."""
        with self._lock:
            self._hint += 1
        if self._ahead is not None:
            self._ahead.shutdown(wait=True, cancel_futures=True)
            self._ahead = None

    @property
    def held_bytes(self) -> int:
        """Of the pixels that are kept."""
        with self._lock:
            return self._held

    def _prepare(self, todo: Sequence[tuple[str, Key]], hint: int) -> None:
        room = self._capacity // 2
        for sample_id, key in todo:
            if room <= 0 or self._hint != hint:
                return
            try:
                made = self.get(key, sample_id=sample_id)
            except Exception:  # it comes again, and to the right place, when the prompt is asked for
                continue
            room -= made.vision.patches.nbytes

    def _make(self, key: Key, sample_id: str) -> Pixels:
        items = []
        for media in key:
            known = self._known(media)
            items.append(self._fresh(media, sample_id) if known is None else known)
        return _joined(items)

    def _known(self, media: Media) -> Preprocessed | None:
        """The item as another prompt shows it."""
        with self._lock:
            for key, pixels in self._kept.items():
                if media in key:
                    return pixels.items[key.index(media)]
        return None

    def _fresh(self, media: Media, sample_id: str) -> Preprocessed:
        self._quarantine.refuse(media)
        try:
            return self._preprocess(media)
        except BrokenMedia as error:
            self._quarantine.add(media, error, sample_id=sample_id)
            raise

    def _keep(self, key: Key, made: Pixels) -> None:
        """With the lock held. Items of a joint entry that were kept alone are forgotten there: one copy is enough."""
        if len(key) > 1:
            for media in key:
                self._forget((media,))
        self._kept[key] = made
        storage = made.vision.patches.untyped_storage()
        if storage.data_ptr() not in self._users:
            self._users[storage.data_ptr()] = 0
            self._held += storage.nbytes()
        self._users[storage.data_ptr()] += 1
        while self._held > self._capacity and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Key) -> None:
        """With the lock held. A picture may lie in the tensor of a joint entry: the last of its users frees it."""
        pixels = self._kept.pop(key, None)
        if pixels is None:
            return
        storage = pixels.vision.patches.untyped_storage()
        self._users[storage.data_ptr()] -= 1
        if not self._users[storage.data_ptr()]:
            del self._users[storage.data_ptr()]
            self._held -= storage.nbytes()


def _joined(items: Sequence[Preprocessed]) -> Pixels:
    """Several items in one tensor, of which the items become views."""
    if len(items) == 1:
        patches = items[0].patches
        parts = tuple(items)
    else:
        patches = torch.cat([item.patches for item in items])
        bounds = torch.tensor([0, *(len(item.patches) for item in items)]).cumsum(0).tolist()
        parts = tuple(
            replace(item, patches=patches[first:last])
            for item, first, last in zip(items, bounds[:-1], bounds[1:], strict=True)
        )
    return Pixels(
        items=parts,
        vision=VisionInputs(
            patches=patches,
            grids=tuple(item.grid for item in items),
            kinds=tuple(item.kind for item in items),
            seconds_per_grid=tuple(item.seconds_per_grid for item in items),
            digests=tuple(item.digest for item in items),
        ),
        prompts={},
    )


def _compute_alone() -> None:
    """Keep the calling thread's tensor operations to itself.

    Otherwise OpenMP gives it a team of its own beside the main thread's. With more threads than cores GNU OpenMP lets
    waiting threads sleep at once, and from then on every small operation of the main thread waits for one to wake up:
    decoding a small model took three times as long.
    """
    torch.get_num_threads()  # torch sets a new thread's number at the first such call, and would undo the limit later
    threadpool_limits(limits=1, user_api="openmp")
