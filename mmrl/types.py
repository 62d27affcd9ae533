"""What flows through mmrl. Read this file first.

    Sample ──render──▶ Prompt ──generate──▶ RolloutGroup ──score──▶ ScoredGroup ──credit──▶ TrainBatch ──▶ loss

Each arrow is one function in one module. A later type contains the earlier one and never changes it. `TrainBatch` holds
tensors and lives in `batch.py`; everything here is plain Python, so that reading data, scoring completions and showing
traces need no torch.

    Media, Answer, Sample          a data-set row whose answer can be checked
    VisionInputs, VisionItem       the prompt's pixels, together and item by item
    MediaView                      how the model's coordinates map to the original's
    Prompt                         a Sample as the model reads it: token ids and pixels
    Completion, FinishReason       what the policy wrote, as rewards see it
    Rollout, RolloutGroup          completions of one prompt with their log-probabilities and origin
    Score, RewardResult            what one reward says of one completion
    ScoredGroup                    a group with every reward's result and the totals
    Dropped                        a sample or group that was left out, with the reason
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

MediaType = Literal["image", "video", "frames"]
AnswerType = Literal["choice", "choices", "number", "text", "math", "box", "boxes", "point", "span", "spans"]
Space = Literal["pixels", "unit", "norm1000"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # of options, the first of which is A: there are 26 at most
CORRECT_AT = 0.5  # a rollout is correct from this accuracy upwards, wherever a yes or no is asked of a graded answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One picture, clip or list of frames of a sample. Paths are absolute once a manifest was read."""

    type: MediaType
    path: str | None = None  # image and video: the file
    paths: tuple[str, ...] = ()  # frames: one file per frame, in order of time
    start: float | None = None  # video: first second used; None: from the beginning
    end: float | None = None  # video: last second used; None: to the end
    fps: float | None = None  # video: frames sampled per second; frames: the rate at which they were taken
    max_frames: int | None = None  # video: upper bound on the frames sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The verifiable answer.

    `value` by type: choice "B" · choices ("A", "C") · number 3.5 · text, math "…" · box (x1, y1, x2, y2) ·
    boxes ((x1, y1, x2, y2), …) · point (x, y) · span (start, end) in seconds · spans ((start, end), …).
    """

    type: AnswerType
    value: Any
    unit: str | None = None  # number: "m", "%", …; informative unless a reward uses it
    space: Space = "pixels"  # box, boxes, point: pixels of the original picture, 0–1, or 0–1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One data-set row: a question about media, and the answer that can be checked.

    Example:
        Sample(id="digits-train-0007", task="choice", question="Which digit is written here?",
               media=(Media(type="image", path="/data/images/0007.png"),), choices=("0", "1", …),
               answer=Answer(type="choice", value="H"), metadata={"split": "train"})
    """

    id: str  # unique in its manifest; seeds of rollouts derive from it
    task: str  # chooses the reward set in the config; evaluation reports per task
    question: str  # `<image>` and `<video>` mark where media go; without marks they come first
    answer: Answer
    media: tuple[Media, ...] = ()
    choices: tuple[str, ...] = ()  # option texts; the first is option A
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def letters(self) -> str:
        """Of its options, "ABCD"; empty where no option texts are listed."""
        return LETTERS[: len(self.choices)]

    def option(self, letter: str) -> str:
        """The text of one of its options."""
        return self.choices[LETTERS.index(letter)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaView:
    """How one media item looks to the model: converts the coordinates a model speaks to original pixels and back.

    A Qwen2.5-VL speaks pixels of the resized picture (`spoken_width` is its width); a Qwen2-VL or Qwen3-VL speaks
    0–1000 (`spoken_width` is 1000).
    """

    width: int  # of the original, pixels
    height: int
    spoken_width: float  # the x coordinate by which the model means the right edge
    spoken_height: float
    seconds: tuple[float, ...] = ()  # video and frames: the time of each frame the model saw
    frames: tuple[int, ...] = ()  # … and its number in the clip, or in the list of files
    reader: str = ""  # which reader decoded the clip: "decord", "pyav"; "files" for listed frames
    reader_note: str = ""  # why it was not the first choice; empty: it was

    def to_original(self, x: float, y: float) -> tuple[float, float]:
        """A point as the model wrote it, in pixels of the original."""
        return x * self.width / self.spoken_width, y * self.height / self.spoken_height

    def to_spoken(self, x: float, y: float) -> tuple[float, float]:
        """A point in pixels of the original, as the model would write it."""
        return x * self.spoken_width / self.width, y * self.spoken_height / self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionInputs:
    """The preprocessed pixels of one prompt: the only copy, shared by every pass that needs them.

    Media items appear in the order of their placeholders in the prompt.
    """

    patches: Tensor  # [S, F] float32: S patches of all items one after the other, F values each
    grids: tuple[tuple[int, int, int], ...]  # per item: (time, height, width) in patches; the products sum to S
    kinds: tuple[Literal["image", "video"], ...]  # per item
    seconds_per_grid: tuple[float, ...]  # per item: video seconds between two grid times; 0 for images
    digests: tuple[str, ...]  # per item, of its pixels and grid: equal digests have equal features

    def items(self) -> tuple[VisionItem, ...]:
        """Each item by itself; its patches are a view of the only copy."""
        out, first = [], 0
        for grid, digest in zip(self.grids, self.digests, strict=True):
            stop = first + grid[0] * grid[1] * grid[2]
            out.append(VisionItem(patches=self.patches[first:stop], grid=grid, digest=digest))
            first = stop
        return tuple(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionItem:
    """One preprocessed picture or clip."""

    patches: Tensor  # [s, F]
    grid: tuple[int, int, int]  # (time, height, width) in patches; the product is s
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A sample as the model reads it. Made once per sample and step, by `policy/render.py`.

    `media_slots` are the runs of positions in `token_ids` that hold visual tokens, in the order of the features: one
    run per item, or one per frame where a family writes the time between frames. A placeholder token anywhere else is
    ordinary text.
    """

    sample: Sample
    text: str  # the rendered chat, one placeholder per media item
    token_ids: tuple[int, ...]  # length P, placeholders expanded
    media_slots: tuple[tuple[int, int], ...] = ()  # runs: [first, last + 1) positions in token_ids
    vision: VisionInputs | None = None  # None: text-only
    views: tuple[MediaView, ...] = ()  # per item, same order as vision.grids


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"  # the policy wrote the end token or a stop string
    LENGTH = "length"  # cut at max_tokens: the policy had not finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the policy wrote, as a reward sees it."""

    text: str  # without the end token
    token_count: int | None = None  # tokens including the end token; None where stored text came without tokens
    finish_reason: FinishReason = FinishReason.STOP
    views: tuple[MediaView, ...] = ()  # to convert coordinates; empty: the text speaks the answer's own space


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One completion with its log-probabilities and its origin."""

    completion: Completion
    token_ids: tuple[int, ...]  # length C ≥ 1, the end token included when the policy wrote it
    behavior_logprobs: tuple[float, ...]  # [C] under the distribution that was sampled (temperature, top-p, top-k)
    policy_logprobs: tuple[float, ...]  # [C] under the untempered, untruncated distribution
    index: int  # 0 … G − 1 in its group
    seed: int  # everything random about it derives from this
    policy_version: int  # RL steps that the sampling weights had been through
    origin: str = "policy"  # who wrote it; any other is a demonstration, and its log-probabilities are NaN

    @property
    def own(self) -> bool:
        """Whether the policy wrote it."""
        return self.origin == "policy"

    @property
    def truncated(self) -> bool:
        return self.completion.finish_reason is FinishReason.LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutGroup:
    """The rollouts of one prompt: compared with each other, trained in one packed row."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]  # G of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a reward function returns: a float in the reward's declared range and, if useful, why."""

    value: float
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON values; shown in the trace


class RewardStatus(StrEnum):
    """Whether a reward did its work on one completion."""

    OK = "ok"
    ERROR = "error"  # it raised, or returned something that is no score
    TIMEOUT = "timeout"  # it was killed at its time limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardResult:
    """One reward's verdict on one rollout. A reward that failed has value 0 and says why in `details["error"]`."""

    value: float
    weight: float  # the config's; the total is Σ weight · value
    status: RewardStatus = RewardStatus.OK
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """A group with every reward's result. All tuples have length G, in the order of `group.rollouts`."""

    group: RolloutGroup
    results: tuple[Mapping[str, RewardResult], ...]  # per rollout: reward name → result
    totals: tuple[float, ...]  # Σ weight · value
    accuracy: tuple[float, ...]  # correctness in [0, 1], from the rewards of kind "accuracy"; 0 where there is none
    format: tuple[float, ...]  # in [0, 1], from the rewards of kind "format"; 1 where the task asks for no form
    twins: Mapping[str, ScoredGroup] = field(default_factory=dict)  # view → rollouts of that version of the prompt

    def own(self) -> ScoredGroup | None:
        """The group without demonstrations; None where nothing else is in it."""
        kept = [i for i, rollout in enumerate(self.group.rollouts) if rollout.own]
        if len(kept) == len(self.totals):
            return self
        if not kept:
            return None
        return ScoredGroup(
            group=RolloutGroup(prompt=self.group.prompt, rollouts=tuple(self.group.rollouts[i] for i in kept)),
            results=tuple(self.results[i] for i in kept),
            totals=tuple(self.totals[i] for i in kept),
            accuracy=tuple(self.accuracy[i] for i in kept),
            format=tuple(self.format[i] for i in kept),
            twins=self.twins,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A sample or group that was left out. Nothing is left out without one of these."""

    sample_id: str
    stage: Literal["media", "rollout", "reward", "filter", "view"]
    reason: str  # a short slug that can be counted: "truncated image", "all wrong"
    detail: str = ""  # the full sentence
