"""Time and memory of building a data set of many rows, without reading any medium: `recipe_rows.py 1000000`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mmrl.data.recipe import write_data_set
from mmrl.data.source import Draft, Source
from mmrl.memory import peak_memory_mib
from mmrl.types import Answer, Media

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is

from tools.bench.scratch import scratch_folder


def rows(count: int) -> Iterator[Draft]:
    """Questions of 230 characters with three options; three of them about each clip."""
    for i in range(count):
        yield Draft(
            key=f"r{i}",
            task="choice",
            question=f"What is done in clip {i}? " + "x" * 200,
            choices=("cup", "book", "lamp"),
            answer=Answer(type="choice", value="ABC"[i % 3]),
            media=(Media(type="video", path=f"/films/{i // 3}.mp4"),),
            stratum=str(i % 7),
        )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with scratch_folder() as folder:
        started = time.perf_counter()
        source = Source(rows=rows(count), total=count, inputs={})
        held, _ = write_data_set(source, folder / "out", name="m", shares={"train": 8, "test": 2}, seed=0)
        seconds = time.perf_counter() - started
    print(f"{count} rows → {held}: {seconds:.1f} s, {count / seconds:,.0f} rows/s, at most {peak_memory_mib():.0f} MiB")


if __name__ == "__main__":
    main()
