"""mmrl: reinforcement learning with verifiable rewards for vision-language models.

Importing the package is cheap: nothing heavy is loaded until it is used. Start reading at `mmrl/types.py` and
`mmrl/training/loop.py`.

    mmrl.load_manifest(path)                  the samples of a manifest
    mmrl.score(name, completion, sample)      what a reward of the catalogue says of a completion
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mmrl.data.manifest import read_manifest as load_manifest
    from mmrl.rewards.catalog import score

__all__ = ["__version__", "load_manifest", "score"]


def __getattr__(name: str) -> Any:
    if name == "load_manifest":
        from mmrl.data.manifest import read_manifest

        return read_manifest
    if name == "score":
        from mmrl.rewards.catalog import score

        return score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
