"""What reads pictures and clips: prompts for the policy, and files of media that are addresses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.config.schema import Config
from mmrl.progress import Progress
from mmrl.types import Sample

if TYPE_CHECKING:
    from mmrl.data.fetched import Fetched
    from mmrl.policy.load import LoadedModel
    from mmrl.policy.render import Renderer


def build_renderer(config: Config, model: LoadedModel, *, run_dir: Path | None = None) -> Renderer:
    """Prompts in the config's mode, pictures and clips in its limits.

    With a `run_dir`, media that cannot be used are remembered there and not tried again.
    """
    from mmrl.data.video import ClipReader
    from mmrl.data.video_plan import ClipRules
    from mmrl.policy.render import Renderer

    video = config.video
    return Renderer(
        model.processor,
        model.policy.family,
        model.policy.config,
        mode=config.prompt.mode,
        system=config.prompt.system,
        min_pixels=config.model.min_pixels,
        max_pixels=config.model.max_pixels,
        clips=ClipReader(deadline_seconds=video.deadline_seconds, memory_bytes=int(video.memory_gib * 2**30)),
        rules=ClipRules(
            fps=video.fps,
            min_frames=video.min_frames,
            max_frames=video.max_frames,
            min_pixels=video.min_pixels,
            max_pixels=video.max_pixels,
            total_pixels=video.total_pixels,
        ),
        quarantine=run_dir / "quarantine.jsonl" if run_dir is not None else None,
    )


def fetch_addresses(config: Config, samples: Sequence[Sample], *, record: Path, progress: Progress) -> Fetched:
    """The files of the samples' media that are addresses, as `data.urls` allows. `record`: what the run fetched."""
    from mmrl.data.fetch import Fetcher, FetchLimits
    from mmrl.data.fetched import MediaCache, fetch_media

    urls = config.data.urls
    limits = FetchLimits(
        hosts=urls.hosts,
        max_bytes=int(urls.max_mib * 2**20),
        deadline_seconds=urls.deadline_seconds,
        max_redirects=urls.max_redirects,
        attempts=urls.attempts,
    )
    return fetch_media(
        samples,
        fetcher=Fetcher(limits),
        cache=MediaCache(Path(urls.folder)),
        record=record,
        at_once=urls.at_once,
        progress=progress,
    )
