"""Whether packages can be imported: a version that is there may still not load."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from mmrl.doctor.catalog import BASE
from mmrl.doctor.finding import Asked, Finding, Verdict

# What has to be touched as well, where importing alone does not load the compiled part.
TOUCHED = {
    "torchvision": ("torchvision.ops", "nms"),
    "transformers": ("transformers", "Qwen2_5_VLForConditionalGeneration"),
    "decord": ("decord", "VideoReader"),
}


def look(part: str, asked: Asked) -> Finding:
    """`part`: "import NAME". Whatever it raises is caught by the caller."""
    name = part.removeprefix("import ")
    if find_spec(name) is None:
        needed = part in BASE
        return Finding(
            check=part,
            verdict=Verdict.FAILED if needed else Verdict.SKIPPED,
            detail="not installed",
            advice="every run imports it: pip install -c constraints.txt -e ."
            if needed
            else "only what needs it does without: pyproject.toml says which extra brings it",
        )
    loaded = importlib.import_module(name)
    if name in TOUCHED:
        module, attribute = TOUCHED[name]
        getattr(importlib.import_module(module), attribute)
    version = getattr(loaded, "__version__", "")
    return Finding(check=part, verdict=Verdict.OK, detail=f"{name} {version}".strip())
