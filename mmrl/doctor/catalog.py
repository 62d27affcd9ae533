"""The checks, in the order in which they are begun: what a run needs first, then what takes long.

A part's own deadline is for what hangs: longer than everything may take by default, so that a busy machine is not taken
for a broken one.

To add one: a file in this folder with a function (part, asked) → Finding, and a line below.
"""

from __future__ import annotations

from mmrl.doctor.finding import Check

# A run on the CPU imports all of the first; the others serve one thing each, and are installed with extras.
PACKAGES = (
    *("torch", "torchvision", "transformers", "tokenizers", "numpy", "PIL", "jaxtyping", "pydantic", "yaml", "typer"),
    *("rich", "sklearn", "jinja2", "rapidfuzz", "nltk", "math_verify", "scipy", "qwen_vl_utils", "av", "decord"),
    *("peft", "threadpoolctl", "imagehash"),
)
EXTRAS = ("datasets", "matplotlib", "gradio", "plotly", "duckdb", "pyarrow", "orjson", "tensorboard", "bitsandbytes")
BASE = tuple(f"import {name}" for name in PACKAGES)
OPTIONAL = tuple(f"import {name}" for name in EXTRAS)

CHECKS: dict[str, Check] = {
    "machine": Check(
        run="mmrl.doctor.machine:look",
        parts=("python", "processor", "memory", "shared memory", "open files"),
        seconds=60,
        needed=("python", "memory"),
    ),
    "versions": Check(run="mmrl.doctor.versions:look", parts=("versions",), seconds=90, needed=("versions",)),
    "disk": Check(run="mmrl.doctor.disk:look", parts=("disk",), seconds=90, needed=("disk",)),
    "video": Check(
        run="mmrl.doctor.video:look",
        parts=("video with PyAV", "video with decord"),
        seconds=90,
        needed=("video with PyAV",),
    ),
    "imports": Check(run="mmrl.doctor.imports:look", parts=BASE, seconds=120, needed=BASE, together="imports"),
    "tiny model": Check(
        run="mmrl.doctor.tiny_model:look",
        parts=("engine transformers", "backend torch"),
        seconds=120,
        needed=("engine transformers", "backend torch"),
    ),
    "extras": Check(
        run="mmrl.doctor.imports:look",
        parts=OPTIONAL,
        seconds=120,
        together="imports, extras",
    ),
    "gpus": Check(run="mmrl.doctor.gpus:look", parts=("GPUs",), seconds=60),
    "vllm": Check(run="mmrl.doctor.engines:look", parts=("engine vllm",), seconds=120, slow=True),
    "vllm server": Check(run="mmrl.doctor.engines:look", parts=("engine vllm_server",), seconds=120, slow=True),
    "deepspeed": Check(
        run="mmrl.doctor.backends:look",
        parts=("backend deepspeed, ZeRO 0", "backend deepspeed, ZeRO 2", "backend deepspeed, ZeRO 3"),
        seconds=120,
    ),
}
