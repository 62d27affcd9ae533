"""How fast the data tool is, and how much memory it takes: `python tools/bench/data.py [--rows N]`.

Writes a manifest of N rows (default 1,000,000) and takes it through `validate --no-media`, `filter`, `dedup` of text,
`split` and `mix`, each a command of its own, as a user runs it. Prints rows a second, seconds of processor time and the
peak of the resident memory of the command and all its workers together (/proc, every 50 ms). Then decodes pictures and
clips in killable workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is

from tools.bench.scratch import scratch_folder

PAGE = os.sysconf("SC_PAGE_SIZE")
LIMIT_SECONDS, LIMIT_GIB = 180.0, 1.0
THINGS = ("cube", "ball", "cone", "cup", "lamp", "book", "chair", "plant", "shoe", "clock")
COLOURS = ("red", "green", "blue", "yellow", "grey", "brown", "purple", "orange")
SIDES = ("left of", "right of", "behind", "in front of", "above", "below")


def write_manifest(path: Path, rows: int) -> int:
    """Rows that are all different but for every twentieth, which repeats the words of the one before; their number."""
    repeats = 0
    with open(path, "w", encoding="utf-8") as file:
        for i in range(rows):
            again = i % 20 == 19
            repeats += again
            file.write(_row(i, i - 1 if again else i, again) + "\n")
    return repeats


def _row(number: int, scene: int, again: bool) -> str:
    thing, other = THINGS[scene % 10], THINGS[scene // 10 % 10]
    colour, side = COLOURS[scene // 100 % 8], SIDES[scene // 7 % 6]
    question = f"Which of the things in picture {scene} stands {side} the {colour} {thing}, seen from the {other}?"
    body = {
        "id": f"bench-{number:07d}",
        "task": ("relation", "counting", "attribute")[scene % 3],
        "question": question.replace("?", " ?").upper() if again else question,
        "media": [{"type": "image", "path": f"images/{scene // 4:06d}.png"}],
        "choices": ["a cup", "a book", "a lamp", "a chair"],
        "answer": {"type": "choice", "value": "ABCD"[scene % 4]},
        "metadata": {"source": "bench", "scene": scene // 8, "difficulty": {"pass_rate": scene % 9 / 8}},
    }
    return json.dumps(body)


def measured(arguments: Sequence[str]) -> tuple[float, float, float, str]:
    """(seconds, processor seconds, peak GiB of the process and its descendants, output) of one `mmrl` command."""
    began, before = time.perf_counter(), processor_seconds()
    command = [sys.executable, "-m", "mmrl", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.05)
    seconds, busy = time.perf_counter() - began, processor_seconds() - before
    assert process.stdout is not None
    printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with code {process.returncode}:\n{printed[-3000:]}")
    return seconds, busy, peak / 2**30, printed


def processor_seconds() -> float:
    """Of all child processes that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident(root: int) -> int:
    """Bytes of a process and of all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry))
    whole, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += parents.get(process, [])
        try:
            whole += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
        except (OSError, IndexError):
            continue
    return whole


def manifest_verbs(folder: Path, rows: int, workers: int) -> None:
    """The five verbs, one after the other."""
    manifest = folder / "all.jsonl"
    repeats = write_manifest(manifest, rows)
    print(f"{rows:,} rows, {manifest.stat().st_size / 1e6:.0f} MB, {workers} workers")
    common = ["--workers", str(workers), "--quiet"]
    expression = "len(choices) == 4 and metadata.difficulty.pass_rate > 0 and task != 'none'"
    verbs = {
        "validate": [str(manifest), "--no-media"],
        "filter": [str(manifest), expression, "--out", str(folder / "filtered.jsonl")],
        "dedup": [str(manifest), "--media", "path", "--near-text", "0.8", "--out", str(folder / "unique.jsonl")],
        "split": [str(folder / "unique.jsonl"), "--media", "path", "--group", "scene", "--out", str(folder / "split")],
        "mix": [str(folder / "split/train.jsonl"), str(folder / "split/test.jsonl"), "--weights", "4,1",
                "--out", str(folder / "mixed.jsonl")],
    }  # fmt: skip
    total = highest = 0.0
    print(f"{'verb':<10} {'seconds':>8} {'processor':>9} {'rows/s':>9} {'peak GiB':>9}")
    for verb, arguments in verbs.items():
        seconds, busy, peak, printed = measured(["data", verb, *arguments, *common])
        handled = rows if verb not in ("split", "mix") else rows - repeats
        print(f"{verb:<10} {seconds:8.1f} {busy:9.1f} {handled / seconds:9,.0f} {peak:9.2f}", flush=True)
        if verb == "dedup" and f"{rows - repeats} of {rows} rows" not in printed:
            raise SystemExit(f"dedup should leave {rows - repeats} rows:\n{printed}")
        total, highest = total + seconds, max(highest, peak)
    limits = f"limits: {LIMIT_SECONDS:g} s, {LIMIT_GIB:g} GiB"
    print(f"{'together':<10} {total:8.1f} {'':>9} {'':>9} {highest:9.2f}  ({limits})")


def decoding(folder: Path, pictures: int, clips: int, workers: int) -> None:
    """Files a second, decoded in killable workers, digests and looks included."""
    import numpy as np
    from PIL import Image

    from mmrl.curation.media_facts import Request, examine
    from mmrl.curation.workers import Failed, run_killable

    generator = np.random.Generator(np.random.PCG64(0))
    names = []
    for i in range(pictures):
        small = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
        name = folder / f"{i}.jpg"
        picture.save(name, quality=90)
        names.append((str(name), "image"))
    for i in range(clips):
        name = folder / f"{i}.mp4"
        _write_clip(name, seed=i)
        names.append((str(name), "video"))
    for kind, what in (("image", "pictures of 640×480, JPEG"), ("video", "clips of 10 s, 320×240, 25 fps, H.264")):
        for depth in ("decode", "look"):
            requests = [Request(path=p, kind=k, depth=depth) for p, k in names if k == kind]  # type: ignore[arg-type]
            found = run_killable(examine, requests, workers=workers, seconds=60)
            next(found)  # the workers have started
            began, before = time.perf_counter(), processor_seconds()
            results = list(found)
            seconds, busy = time.perf_counter() - began, processor_seconds() - before
            bad = [r for r in results if isinstance(r, Failed) or r.reason]
            assert not bad, bad[:1]
            rate = len(results) / seconds
            print(
                f"{what}, {depth}: {rate:,.0f}/s, {len(results) / busy:,.0f} per second of processor time", flush=True
            )


def _write_clip(path: Path, *, seed: int) -> None:
    import av
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    ground = generator.integers(0, 200, (240, 320, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(250):
            frame = ground.copy()
            frame[80:120, i : i + 40] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with scratch_folder() as folder:
        if given.rows:
            manifest_verbs(folder, given.rows, given.workers)
        if given.pictures:
            decoding(folder, given.pictures, given.clips, given.workers)


if __name__ == "__main__":
    main()
