"""Visual tokens and features are held against each other before a model sees a prompt. Cheap: sizes only.

What goes wrong otherwise is silent: a feature too few, and every later one lands in its neighbour's place.
"""

from __future__ import annotations

from mmrl.errors import DataError
from mmrl.types import Prompt


def check_vision(prompt: Prompt, *, merge: int) -> None:
    """Raise DataError, naming the sample, unless patches, grids and token runs of a prompt agree.

    `merge`: side of the square of patches that becomes one visual token.
    """
    tokens = sum(stop - first for first, stop in prompt.media_slots)
    vision = prompt.vision
    if vision is None:
        if tokens:
            raise DataError(_message(prompt, f"{tokens} visual tokens and no pixels"))
        return
    patches = sum(t * h * w for t, h, w in vision.grids)
    if len(vision.patches) != patches:
        raise DataError(
            _message(prompt, f"{len(vision.patches)} patches where its grids {vision.grids} have {patches}")
        )
    if tokens * merge**2 != patches:
        raise DataError(_message(prompt, f"{tokens} visual tokens for {patches / merge**2:g} features"))
    if not len(vision.grids) == len(vision.kinds) == len(vision.seconds_per_grid) == len(vision.digests):
        raise DataError(_message(prompt, f"{len(vision.grids)} grids for {len(vision.kinds)} media items"))
    edges = [edge for run in prompt.media_slots for edge in run]
    if edges != sorted(edges) or (edges and edges[-1] > len(prompt.token_ids)):
        raise DataError(_message(prompt, f"runs of visual tokens {prompt.media_slots} that are not in it one by one"))


def _message(prompt: Prompt, what: str) -> str:
    return (
        f"sample {prompt.sample.id!r}: its prompt has {what}. The processor of this model does not fit its config; "
        f"save both from the same place (`processor.save_pretrained`), or report this sample."
    )
