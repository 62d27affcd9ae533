"""What a builder gives to `build_recipe`: a stream of rows that are not yet assigned to a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmrl.types import Answer, Dropped, Media


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A media file that the build writes into the data set."""

    type: Literal["image", "video"]
    content: bytes  # equal content means equal media: such rows never straddle two splits
    suffix: str  # ".png"
    options: Mapping[str, Any] = field(default_factory=dict)  # of a video: start, end, fps, max_frames, as in `Media`


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A row of the source, checked by the builder. It becomes a `Sample` once its split is known."""

    key: str  # unique and lasting name in the source
    question: str
    answer: Answer
    media: tuple[NewFile | Media, ...] = ()  # a Media refers to a file where it is, by absolute path
    choices: tuple[str, ...] = ()
    task: str
    stratum: str = ""  # rows of one stratum spread over the splits in proportion
    group: str | None = None  # rows of one group stay in one split: frames of a scene, questions about one clip
    split: str | None = None  # where the source itself says which split the row belongs to; None: it is dealt out
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a builder found."""

    rows: Iterator[Draft | Dropped]  # a Dropped has the row's key as its sample_id
    total: int | Callable[[], int]  # how many rows will come, as far as is known, or who asks; progress alone uses it
    inputs: Mapping[str, str]  # file read → SHA-256 of its content; hub name → the revision that was asked for
    hash_media: bool = True  # the content of media that rows refer to goes into `media.jsonl`; False: sizes alone
    commits: Mapping[str, str] = field(default_factory=dict)  # hub name → commit; filled while the rows come
    packages: tuple[str, ...] = ()  # whose versions shape the output
    notices: tuple[str, ...] = ()  # whose work the media are and under which licence; written into the built folder
