"""Screening, before RL: how often the policy that RL starts from is right on each training sample.

    runs/<name>/screened/train.jsonl   the train manifest with metadata.pass_rate, .difficulty and .base_completion

What `mmrl data difficulty --keep-completion` does by hand, as a stage of the run: it goes on where it was interrupted,
and is not done again once its manifest is there. With several ranks each asks its share of the samples. Samples that
could not be asked are not in it, but beside it, with the reason.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mmrl.config.schema import Config
from mmrl.curation.difficulty import measure_difficulty
from mmrl.data.manifest import read_manifest
from mmrl.pipeline.asking import Asking, Notices, asked_by_all, asking
from mmrl.pipeline.run_folder import timed
from mmrl.progress import Progress
from mmrl.ranks import ALONE, Ranks
from mmrl.types import Sample


def screened(
    config: Config,
    run_dir: Path,
    start_model: str,
    manifest: str,
    samples: list[Sample],
    progress: Progress,
    ranks: Ranks = ALONE,
) -> list[Sample]:
    """The training samples, `samples` of `manifest`, as screening leaves them. The config has a `screening` section.

    All ranks call it together.
    """
    assert config.screening is not None
    out = run_dir / "screened" / "train.jsonl"
    if not ranks.first_does(out.exists):
        how = Asking(rollouts=config.screening.rollouts)
        notices = Notices(ranks, progress.note)
        with (
            timed(run_dir, "screening", ranks),
            asking(start_model, samples[:8], config=config, how=how, tell=notices.tell, ranks=ranks) as (ask, settings),
        ):
            measure = partial(
                measure_difficulty,
                manifest,
                out,
                settings=settings,
                batch=config.rollout.prompts_per_step,
                keep_completion=True,
                progress=progress,
            )
            report = asked_by_all(ranks, ask, lambda shared: measure(ask=shared), notices)
        counted = ", ".join(f"{count} {name}" for name, count in report.figures["histogram"].items())
        progress.note(f"screening: {counted}; {report.figures['completions_kept']} completions kept")
    return read_manifest(out)
