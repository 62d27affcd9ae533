"""Token vectors for bidirectional similarity: hashed letter trigrams, or the input embeddings of a model on disk.

Neither needs torch. Of a model, only the rows that are asked for are read.
"""

from __future__ import annotations

import json
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.errors import ConfigError
from mmrl.rewards.normalize import folded, without_punctuation

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

_DIMENSIONS = 512
_NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def hashed_vectors(text: str) -> Float[np.ndarray, "T D"]:
    """One unit vector per word: counts of its letter trigrams, hashed into 512 places."""
    import numpy as np

    words = without_punctuation(folded(text)).split()
    vectors = np.zeros((len(words), _DIMENSIONS), dtype=np.float32)
    for row, word in enumerate(words):
        for place in _places(word):
            vectors[row, place] += 1.0
    return unit_rows(vectors)


@lru_cache(maxsize=16384)
def _places(word: str) -> tuple[int, ...]:
    padded = f"^{word[:64]}$"
    return tuple(zlib.crc32(padded[i : i + 3].encode()) % _DIMENSIONS for i in range(max(1, len(padded) - 2)))


def unit_rows(vectors: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T D"]:
    """Rows scaled to length 1; rows of zeros stay."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.where(lengths > 0, lengths, 1.0)
    return scaled


class ModelVectors:
    """Input embeddings of the tokens of a text, from a model folder in Hugging Face layout (safetensors)."""

    def __init__(self, folder: str) -> None:
        import numpy as np
        from tokenizers import Tokenizer

        tokenizer = Path(folder) / "tokenizer.json"
        if not tokenizer.is_file():
            raise ConfigError(f"reward 'bmas': {folder} holds no tokenizer.json; give a model folder, or no model.")
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        file, name, start, entry = _embedding_entry(Path(folder))
        self._type = entry["dtype"]
        if self._type not in _NUMPY_TYPES:
            raise ConfigError(f"reward 'bmas': {name} is of type {self._type}; known: {', '.join(_NUMPY_TYPES)}.")
        self._rows = np.memmap(
            file, dtype=_NUMPY_TYPES[self._type], mode="r", offset=start, shape=tuple(entry["shape"])
        )

    def __call__(self, text: str) -> Float[np.ndarray, "T D"]:
        import numpy as np

        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        rows = np.asarray(self._rows[[i for i in ids if i < len(self._rows)]])
        if self._type == "BF16":  # the upper half of a float32
            rows = (rows.astype(np.uint32) << 16).view(np.float32)
        return unit_rows(rows.astype(np.float32))


@lru_cache(maxsize=4)
def model_vectors(folder: str) -> ModelVectors:
    return ModelVectors(folder)


def _embedding_entry(folder: Path) -> tuple[Path, str, int, dict[str, Any]]:
    """File, name, byte offset and header entry of the input embedding matrix."""
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size))
        for name, entry in header.items():
            if name.endswith("embed_tokens.weight"):
                return file, name, 8 + size + entry["data_offsets"][0], entry
    raise ConfigError(f"reward 'bmas': no safetensors file in {folder} holds an embed_tokens.weight.")
