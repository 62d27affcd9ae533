"""Addresses in a manifest on two ranks: fetched once, by the first, and both train on the files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mmrl.config.load import load_config
from mmrl.data import fetch
from mmrl.pipeline import train_stage
from mmrl.ranks import Ranks
from mmrl.training.metrics import read_metrics
from tests import toy
from tests.data.test_fetch import only_here
from tests.data.test_fetched import lines, manifest_with_addresses
from tests.data.web import sends, serving
from tests.ranks.test_beside import on_both
from tests.training.killed_run import Said


def train_with_addresses(ranks: Ranks, folder: Path) -> None:
    fetch.Fetcher = partial(fetch.Fetcher, refuse=only_here)  # type: ignore[misc, assignment]
    settings = (folder / "settings.txt").read_text().splitlines()
    config = load_config(folder / "tiny.yaml", settings)
    train_stage(config, resume=False, overwrite=False, progress=Said(folder / f"said-{ranks.rank}.txt"))


@pytest.mark.slow
def test_addresses_are_fetched_once_for_all_ranks(tmp_path: Path) -> None:
    pictures = toy.noise_pictures(tmp_path, [(56, 56)] * 5)
    pages = {f"/s{i}.png": sends(pictures[n].read_bytes()) for n, i in enumerate((1, 2, 4))}
    with serving(pages) as web:
        manifest_with_addresses(tmp_path, web)
        (tmp_path / "settings.txt").write_text(
            f"run.folder={tmp_path}\ntrain.steps=4\ndata.urls.allow=true\ndata.urls.hosts=['127.0.0.1:{web.port}']\n"
            f"data.urls.folder={tmp_path / 'cache'}\ndata.urls.attempts=1\n"
        )
        on_both(train_with_addresses, tmp_path)
        assert sorted(web.asked) == ["/gone.png", "/s1.png", "/s2.png", "/s4.png"]
    rows = read_metrics(tmp_path / "tiny" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert sum(row.get("media/dropped_address_refused", 0.0) for row in rows) >= 1
    assert {entry["sample_id"] for entry in lines(tmp_path / "tiny" / "quarantine.jsonl")} == {"s5"}
