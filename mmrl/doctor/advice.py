"""What to do about failures that libraries word badly: pattern of what they say → what helps."""

from __future__ import annotations

import re

ADVICE: dict[str, str] = {
    r"torchvision::nms does not exist": (
        "torchvision is built for another build of torch (CUDA beside CPU). Install both from one index: "
        "pip install -c constraints.txt torch torchvision"
    ),
    r"undefined symbol|version `GLIBC|GLIBCXX": (
        "a compiled package does not fit this system or another package's version. Install the tested versions: pip "
        "install -c constraints.txt -e ."
    ),
    r"No module named 'vllm'|needs vLLM, which is not installed": (
        "only rollout.engine vllm and vllm_server need it; how to install it: docs/rollouts.md"
    ),
    r"No module named 'deepspeed'|backend.type is deepspeed, which is not installed": (
        "only backend.type deepspeed needs it: pip install 'mmrl[deepspeed]'"
    ),
    r"libGL\.so|libglib": "a system library is missing: apt-get install libgl1 libglib2.0-0",
    r"NVIDIA driver on your system is too old": "update the GPU's driver, or install a torch built for an older CUDA",
    r"CUDA out of memory|out of memory": "another process holds the GPU's memory: nvidia-smi shows which",
    r"Address already in use": "another process took the port meanwhile: run mmrl doctor again",
    r"No space left": "free space on the disk, or choose another place with run.folder",
    r"No module named": "install what is missing: pip install -c constraints.txt -e '.[dev]' has everything",
}
AT_A_LOSS = "run `mmrl doctor --log FOLDER` and read what the libraries said in that folder"


def advice_for(said: str) -> str:
    """The first that fits what was said; else where to look."""
    return next((advice for pattern, advice in ADVICE.items() if re.search(pattern, said)), AT_A_LOSS)
