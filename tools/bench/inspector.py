"""How fast the trace inspector is at size: a store of a million rollouts, indexed, opened, filtered, a group shown.

    python tools/bench/inspector.py --out build/bench-inspector               # makes the store once: 1.2 GB
    python tools/bench/inspector.py --out … --rollouts 80000 --json found.json

Each figure is the median of `--repeats`; opening and the memory are those of a fresh process that holds the whole page.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmrl.memory import peak_memory_mib

GROUP, GROUPS_A_STEP, TOKENS = 8, 125, 40
GOALS = {"open": 2.0, "filter": 1.0, "group": 0.3, "memory_mib": 1024.0}  # seconds, MiB


def make_store(run_dir: Path, rollouts: int, *, seed: int = 0) -> None:
    """A run folder whose traces have the shape and the size of real ones; texts, rewards and numbers vary."""
    from PIL import Image

    from mmrl.atomic import write_atomically
    from mmrl.traces.codec import SCHEMA

    draw = random.Random(seed)
    traces = run_dir / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    samples = _samples(run_dir, draw)
    Image.effect_noise((448, 336), 60).convert("RGB").save(run_dir / "scene.jpg")
    (run_dir / "config.yaml").write_text(f"run: {{name: bench}}\ndata: {{train: {run_dir / 'train.jsonl'}}}\n")
    rows = [{k: s[k] for k in ("id", "task", "question", "media", "choices", "answer", "metadata")} for s in samples]
    (run_dir / "train.jsonl").write_text("".join(json.dumps(_manifest_row(row)) + "\n" for row in rows))
    pool = [_rollout(draw) for _ in range(4000)]
    heads = [json.dumps(sample)[1:-1] for sample in samples]
    view = {"width": 448, "height": 336, "spoken_width": 448, "spoken_height": 336, "seconds": [], "frames": [],
            "reader": "", "reader_note": ""}  # fmt: skip
    prompt = json.dumps({"text": "<|im_start|>user …", "tokens": 320, "views": [view]})
    filtered = json.dumps({"sample_id": "", "stage": "filter", "reason": "all wrong", "detail": ""})
    for step in range(rollouts // (GROUP * GROUPS_A_STEP)):
        lines = []
        for _ in range(GROUPS_A_STEP):
            written = ",".join(f'{{"index":{index},{draw.choice(pool)}' for index in range(GROUP))
            dropped = filtered if draw.random() < 0.1 else "null"
            lines.append(
                f'{{"schema":{SCHEMA},"kind":"group","step":{step},"sample":{{{draw.choice(heads)}}},"prompt":{prompt},'
                f'"dropped":{dropped},"rollouts":[{written}]}}\n'
            )
        write_atomically(traces / f"step_{step:06d}.jsonl", "".join(lines).encode())


def _manifest_row(row: dict[str, Any]) -> dict[str, Any]:
    media = [{"type": "image", "path": item["path"]} for item in row["media"]]
    return {**row, "media": media, "answer": {k: v for k, v in row["answer"].items() if v is not None}}


def _samples(run_dir: Path, draw: random.Random) -> list[dict[str, Any]]:
    empty = dict.fromkeys(("start", "end", "fps", "max_frames"))
    media: dict[str, Any] = {"type": "image", "path": str(run_dir / "scene.jpg"), "paths": [], **empty}
    things = ("ball", "cup", "lamp", "bird", "car", "door", "hat", "key")
    return [
        {
            "id": f"bench-{number:06d}",
            "task": ("box", "count", "choice")[number % 3],
            "question": f"Where is the {draw.choice(things)} next to the {draw.choice(things)}?",
            "media": [media],
            "choices": [],
            "answer": {"type": "box", "value": [40, 40, 200, 160], "unit": None, "space": "pixels"},
            "metadata": {},
        }
        for number in range(20_000)
    ]


def _rollout(draw: random.Random) -> str:
    """The JSON of a rollout after its index, without the opening brace."""
    words = " ".join(
        draw.choice(("the", "box", "is", "left", "of", "a", "red", "cup", "so", "I", "look")) for _ in range(24)
    )
    box = sorted(draw.randrange(0, 448) for _ in range(2)) + sorted(draw.randrange(0, 336) for _ in range(2))
    iou, right = round(draw.random(), 4), draw.random() < 0.4
    numbers = [round(-draw.expovariate(1.0), 5) for _ in range(TOKENS)]
    body = {
        "text": f"<think>{words}</think><answer>[{box[0]}, {box[2]}, {box[1]}, {box[3]}]</answer>",
        "token_count": TOKENS,
        "finish_reason": "stop",
        "seed": draw.randrange(2**31),
        "policy_version": 0,
        "origin": "policy",
        "total": iou + 0.2,
        "accuracy": float(right),
        "format": 1.0,
        "advantage": round(draw.gauss(0, 1), 5),
        "rewards": {
            "iou": {"value": iou, "weight": 1.0, "status": "ok", "details": {"iou": iou}, "seconds": 1e-5},
            "format": {"value": 1.0, "weight": 0.2, "status": "ok", "details": {}, "seconds": 1e-5},
        },
        "token_ids": [draw.randrange(300) for _ in range(TOKENS)],
        "behavior_logprobs": numbers,
        "policy_logprobs": numbers,
        "streams": {"entropy": [abs(n) for n in numbers]},
    }
    return json.dumps(body)[1:]


def measure(run_dir: Path, repeats: int) -> dict[str, float]:
    """In this process: what an open page costs. The index must be there."""
    import mmrl_apps.inspector.app  # noqa: F401  (the page's own modules count for the memory)
    from mmrl_apps.inspector.inspector import Inspector

    from mmrl.traces.query import Find

    begun = time.perf_counter()
    inspector = Inspector([run_dir])
    run = inspector.run(inspector.names[0])
    rows, count = run.index.find(Find(), limit=50)
    found = {
        "open": time.perf_counter() - begun,
        "rollouts": float(run.index.facets().rollouts),
        "groups": float(count),
    }
    searches = {
        "task": Find(task="box"),
        "steps and reward": Find(steps=(100, 800), reward=(0.5, 0.8)),
        "oddest": Find(sort="oddest"),
        "one lucky": Find(odd="one lucky", sort="one lucky first"),
        "reward part": Find(part="iou", part_range=(0.6, None), sort="highest reward"),
        "drop reason": Find(outcome="all wrong"),
        "sample": Find(sample_id="bench-000123"),
        "text": Find(text="red cup so"),
        "text and task": Find(text="lamp next to", task="count", sort="longest"),
    }
    for name, find in searches.items():
        found[f"filter: {name}"] = _median(lambda find=find: run.index.find(find, limit=50), repeats)  # type: ignore[misc]
    found["filter"] = max(seconds for name, seconds in found.items() if name.startswith("filter"))
    picked = [rows[i] for i in range(0, 50, 5)]
    shown: list[float] = []
    for row in picked:
        begun = time.perf_counter()
        inspector.group_page(inspector.names[0], row.step, row.place)
        shown.append(time.perf_counter() - begun)
    found["group"] = statistics.median(shown)
    found["group, slowest"] = max(shown)
    found["memory_mib"] = peak_memory_mib()
    return found


def _median(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def build_index(run_dir: Path) -> None:
    """What the first opening does in the background."""
    from mmrl.traces.index import TraceIndex

    begun = time.perf_counter()
    TraceIndex(run_dir).refresh()
    seconds = time.perf_counter() - begun
    print(json.dumps({"index": seconds, "index_mib": peak_memory_mib()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/bench-inspector"))
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--part", choices=("index", "measure"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    run_dir = (given.out / f"run-{given.rollouts}").absolute()
    if given.part == "index":
        build_index(run_dir)
    elif given.part == "measure":
        print(json.dumps(measure(run_dir, given.repeats)))
    else:
        if not (run_dir / "done").exists():
            make_store(run_dir, given.rollouts)
            (run_dir / "done").touch()
        figures: dict[str, float] = {}
        for part in ("index", "measure"):
            command = [sys.executable, __file__, "--out", str(given.out), "--rollouts", str(given.rollouts)]
            command += ["--repeats", str(given.repeats), "--part", part]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            figures |= json.loads(told.splitlines()[-1])
        for name, value in figures.items():
            goal = GOALS.get(name)
            verdict = "" if goal is None else f"   goal {goal:g}: {'met' if value <= goal else 'MISSED'}"
            print(f"{name:<28} {value:12.3f}{verdict}")
        if given.json:
            given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
