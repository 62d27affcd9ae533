"""ZeRO-3 from files: a rank grows by its share and some buckets, never by the model. Measured by the system."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from mmrl.memory import memory_mib, peak_memory_mib
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.tiny import save_tiny_model
from mmrl.ranks import Ranks
from tests.backend import two_ranks
from tests.backend.two_ranks import Case, run_ranks

SHAPE = {"hidden_size": 640, "layers": 10, "heads": 4, "key_value_heads": 2, "vision_hidden_size": 64}
BUCKET_BYTES = 2**20
RESET = Path("/proc/self/clear_refs")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the system's own count of a process's memory"),
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this build of torch has no gloo"),
]


def grown(work: Callable[[], LoadedModel]) -> tuple[int, LoadedModel]:
    """The most that this process's memory grew by during `work`, bytes; and what came of it."""
    RESET.write_text("5")
    before = memory_mib()
    kept = work()
    return int(2**20 * (peak_memory_mib() - before)), kept


def load_and_spread(path: str, ranks: Ranks) -> LoadedModel:
    from mmrl.backend.deepspeed_backend import import_deepspeed
    from mmrl.backend.spread import spread

    deepspeed = import_deepspeed("cpu")
    loaded = load_model(path, dtype=torch.bfloat16, unread=True)
    assert loaded.unread is not None
    deepspeed.init_distributed()
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    spread(loaded.policy, None, loaded.unread, config=config, bucket_bytes=BUCKET_BYTES, ranks=ranks)
    return loaded


def measured(folder: Path, ranks: Ranks) -> dict[str, int]:
    """All parameters' bytes, and the growth of the rank that grew most: by its share, and by a model loaded whole."""
    load_and_spread(str(folder / "tiny"), ranks)  # everything imported, groups made
    ranks.gather(None)
    share, _ = grown(lambda: load_and_spread(str(folder / "model"), ranks))
    # From float32 files: of the same format the system would map them, and count no page before it is used.
    whole, loaded = grown(lambda: load_model(str(folder / "model"), dtype=torch.bfloat16))
    model = sum(p.numel() * p.element_size() for p in loaded.policy.parameters())
    return {"share": max(ranks.gather(share)), "whole": min(ranks.gather(whole)), "model": model}


CASES: dict[str, Case] = {"measured": partial(measured)}


def test_a_rank_holds_its_share_of_a_model_while_it_is_loaded(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    save_tiny_model(tmp_path / "model", **SHAPE, seed=1)  # type: ignore[arg-type]
    save_tiny_model(tmp_path / "tiny", layers=1, hidden_size=32, heads=2, key_value_heads=1, vision_hidden_size=32)
    run_ranks(tmp_path, "tests.backend.test_spread_memory")
    found = two_ranks.result(tmp_path, "measured")
    assert found["model"] > 64 * 2**20
    assert found["whole"] > 0.95 * found["model"], "the measure does not see a whole model"
    # Half of the model and buckets; seen: 50 to 68 MB, as the allocator gives pages back or not, and 226 for the whole.
    assert found["share"] < 0.5 * found["whole"]
