"""The formats by name. To add one: a file beside this one, with a function from a row to a manifest row, and a line.

The function raises `Unfit` for a row that cannot become a sample; everything else about samples is checked afterwards.
Where a row holds several questions it returns a list of manifest rows, with an `Unfit` in place of each that does not
fit. A media item has a `path`, or, where the row holds the file itself, `content` (bytes) and `suffix`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mmrl.data.formats.chartqa import chartqa_row
from mmrl.data.formats.chat import sharegpt_row, trl_row
from mmrl.data.formats.choices import mathvista_row, mmmu_row
from mmrl.data.formats.columns import columns_row
from mmrl.data.formats.geometry import geometry3k_row, r1v_row
from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit
from mmrl.data.formats.screenspot import screenspot_row
from mmrl.data.formats.seed_bench_r1 import seed_bench_r1_row
from mmrl.data.formats.spans import spans_rows
from mmrl.data.formats.video_r1 import video_r1_row
from mmrl.data.formats.vlm_r1 import vlm_r1_row
from mmrl.data.formats.vsi import vsi_row

FORMATS: Mapping[str, Callable[[ForeignRow], ManifestRow | list[ManifestRow | Unfit]]] = {
    "video-r1": video_r1_row,
    "vlm-r1": vlm_r1_row,
    "seed-bench-r1": seed_bench_r1_row,
    "vsi": vsi_row,
    "geometry3k": geometry3k_row,
    "r1-v": r1v_row,
    "spans": spans_rows,
    "screenspot": screenspot_row,
    "chartqa": chartqa_row,
    "mathvista": mathvista_row,
    "mmmu": mmmu_row,
    "sharegpt": sharegpt_row,
    "trl": trl_row,
    "columns": columns_row,
}
