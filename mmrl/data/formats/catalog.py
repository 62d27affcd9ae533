"""The formats by name. To add one: a file beside this one, with a function from a row to a manifest row, and a line.

The function raises `Unfit` for a row that cannot become a sample; everything else about samples is checked afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mmrl.data.formats.row import ForeignRow, ManifestRow
from mmrl.data.formats.seed_bench_r1 import seed_bench_r1_row
from mmrl.data.formats.video_r1 import video_r1_row
from mmrl.data.formats.vlm_r1 import vlm_r1_row

FORMATS: Mapping[str, Callable[[ForeignRow], ManifestRow]] = {
    "video-r1": video_r1_row,
    "vlm-r1": vlm_r1_row,
    "seed-bench-r1": seed_bench_r1_row,
}
