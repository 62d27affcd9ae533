"""Which setting to change where a run does not fit: each is tried in the forecast, and told with what it brings."""

from __future__ import annotations

from dataclasses import dataclass

from mmrl.config.load import changed
from mmrl.config.schema import Config
from mmrl.data.video_plan import MIN_TOKENS
from mmrl.errors import MmrlError
from mmrl.forecast.predict import Asked, Forecast, again
from mmrl.forecast.prompts import Prompts

# What changes nothing but memory and time comes first; what changes what is learnt is marked.


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One change."""

    settings: tuple[str, ...]  # overrides, as the command line takes them
    saves: int  # bytes of the peak
    fits: bool  # with it alone
    seconds: float  # a step would take longer by, by operations and bytes; negative: shorter
    learns_otherwise: bool  # it changes what is trained, not only how


def remedies(config: Config, forecast: Forecast, asked: Asked) -> list[Remedy]:
    """Those that save something: first what makes it fit without changing what is learnt, then by what they save."""
    plain = again(config, forecast, asked)
    found = []
    for settings, learns_otherwise in _candidates(config, forecast):
        try:
            other = again(changed(config, settings), forecast, asked)
        except MmrlError:  # does not go with another setting of the config
            continue
        saves = max(plain.peak - other.peak, 0)
        if saves < 0.01 * plain.peak and not (plain.host_peak > other.host_peak and not plain.fits):
            continue
        found.append(
            Remedy(
                settings=tuple(settings),
                saves=saves,
                fits=other.fits,
                seconds=other.total_seconds - plain.total_seconds,
                learns_otherwise=learns_otherwise,
            )
        )
    return sorted(found, key=lambda r: (r.learns_otherwise, not r.fits, -r.saves))


def _candidates(config: Config, forecast: Forecast) -> list[tuple[list[str], bool]]:
    """(overrides, whether they change what is learnt)."""
    backend, train, rollout = config.backend, config.train, config.rollout
    ranks, cuda = forecast.setting.ranks, forecast.setting.cuda
    found: list[tuple[list[str], bool]] = []
    if not backend.gradient_checkpointing:
        found.append((["backend.gradient_checkpointing=true"], False))
    longest = forecast.step.longest + forecast.step.completion
    for tokens in (train.micro_batch_tokens // 2, train.micro_batch_tokens // 4):
        if tokens >= longest:
            found.append(([f"train.micro_batch_tokens={tokens}"], False))
    if rollout.engine == "vllm" and cuda:
        found += [
            ([f"rollout.vllm.memory_share={share}"], False) for share in (0.3, 0.2) if share < rollout.vllm.memory_share
        ]
    if ranks > 1:
        stages = (2, 3) if backend.type == "torch" else range(backend.zero_stage + 1, 4)
        found += [([*_deepspeed(backend.type), f"backend.zero_stage={stage}"], False) for stage in stages]
    if cuda and backend.offload_optimizer == "none" and train.lora is None:
        stage = [] if backend.type == "deepspeed" and backend.zero_stage else ["backend.zero_stage=2"]
        found.append(([*_deepspeed(backend.type), *stage, "backend.offload_optimizer=cpu"], False))
    if backend.type == "deepspeed" and backend.zero_stage == 3 and backend.offload_weights == "none" and cuda:
        found.append((["backend.offload_weights=cpu"], False))
    if train.optimizer == "adamw" and backend.type == "torch" and cuda:
        found.append((["train.optimizer=adamw_8bit"], True))
    if backend.dtype == "float32":
        found.append((["backend.dtype=bfloat16"], True))
    if "vision" not in train.freeze and train.lora is None and forecast.sizes.tower_learns:
        found.append((["train.freeze=[vision]"], True))
    if train.lora is None:
        found.append((["train.lora={rank: 16}"], True))
    found += [(settings, True) for settings in smaller(config, forecast.prompts, len(forecast.step.prompts))]
    for size in (rollout.group_size // 2,):
        if size >= 2:
            found.append(([f"rollout.group_size={size}"], True))
    if rollout.prompts_per_step >= 2 * ranks:
        found.append(([f"rollout.prompts_per_step={rollout.prompts_per_step // 2}"], True))
    if rollout.max_tokens >= 128:
        found.append(([f"rollout.max_tokens={rollout.max_tokens // 2}"], True))
    return found


def smaller(config: Config, prompts: Prompts, shown: int) -> list[list[str]]:
    """Overrides for half the area of the largest picture, and of the largest frame of a clip, of the first `shown`."""
    found = []
    if picture := max(prompts.pictures[:shown]):
        found.append([f"model.max_pixels={max(picture // 2, config.model.min_pixels or 1)}"])
    if frame := max(prompts.frames[:shown]):
        video, most = config.video, frame // 2
        least = video.min_pixels or MIN_TOKENS * prompts.square
        # The lower bound is kept whatever the upper one is, and that is at least 1.05 times it (`frame_size`).
        lower = [f"video.min_pixels={int(most / 1.05)}"] if most < 1.05 * least else []
        found.append([f"video.max_pixels={most}", *lower])
    return found


def _deepspeed(kind: str) -> list[str]:
    return [] if kind == "deepspeed" else ["backend.type=deepspeed"]
