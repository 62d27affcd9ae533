"""Held-out accuracy of either tool's model, with one engine: mmrl's evaluation, greedy, on weights copied from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmrl import build
from mmrl.config.schema import Config
from mmrl.data.manifest import read_manifest
from mmrl.policy.load import LoadedModel
from mmrl.policy.render import Renderer
from mmrl.progress import SilentProgress
from mmrl.types import Sample
from tools.bench.cell import Cell


class HeldOut:
    """A model of its own beside the one that trains: mmrl prepares models for speed, and TRL must run unaided."""

    def __init__(self, config: Config, model: LoadedModel, samples: Sequence[Sample]) -> None:
        self._config = config
        self._model = model
        self._samples = samples
        self._renderer = build.build_renderer(config, model)

    @staticmethod
    def of(cell: Cell, config: Config) -> HeldOut | None:
        """None where the cell names no held-out samples."""
        if not cell.evaluation:
            return None
        return HeldOut(config, build.load_policy(config, cell.model), read_manifest(cell.evaluation))

    def accuracy(self, trained: nn.Module) -> float:
        """Greedy accuracy of these weights."""
        own = dict(self._model.policy.model.named_parameters())
        with torch.no_grad():
            for name, value in trained.named_parameters():
                own[name].copy_(value)
        return _accuracy(self._config, self._model, self._samples, self._renderer)


def evaluated(config: Config, path: str, samples: Sequence[Sample]) -> float:
    """Greedy accuracy of the model in a folder."""
    model = build.load_policy(config, path)
    return _accuracy(config, model, samples, build.build_renderer(config, model))


def _accuracy(config: Config, model: LoadedModel, samples: Sequence[Sample], renderer: Renderer) -> float:
    with build.build_scorer(config, samples) as scorer:
        result = build.evaluate_policy(
            config, model, samples, scorer=scorer, renderer=renderer, sampled=False, progress=SilentProgress()
        )
    return result.overall.accuracy.value
