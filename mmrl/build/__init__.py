"""The composition root: the only place that chooses implementations. Everything below it gets plain values.

    machine.py      threads, seeds, device, ranks
    policy.py       the policy, its adapters
    media.py        what reads pictures and clips
    scoring.py      the reward sets
    engine.py       the rollout engine; sampling, correction, parity gate
    servers.py      the rollout servers of each rank
    backend.py      the backend of one training stage
    evaluation.py   evaluation
    trainer.py      all of it together, for a training stage

Heavy imports happen inside the functions, so that reading a config or listing commands stays quick.
"""

from mmrl.build.backend import build_backend
from mmrl.build.engine import (
    build_correction,
    build_engine,
    build_gate,
    build_sampling,
    check_engine_is_installed,
    close_engine,
    open_engine,
)
from mmrl.build.evaluation import evaluate_policy, evaluate_with, evaluation_settings
from mmrl.build.machine import join_ranks, set_up_torch
from mmrl.build.media import build_renderer, fetch_addresses
from mmrl.build.policy import add_configured_adapters, load_policy
from mmrl.build.scoring import build_scorer
from mmrl.build.trainer import build_trackers, build_trainer, check_trackers_are_installed, cold_start_settings

__all__ = [
    "add_configured_adapters",
    "build_backend",
    "build_correction",
    "build_engine",
    "build_gate",
    "build_renderer",
    "build_sampling",
    "build_scorer",
    "build_trackers",
    "build_trainer",
    "check_engine_is_installed",
    "check_trackers_are_installed",
    "close_engine",
    "cold_start_settings",
    "evaluate_policy",
    "evaluate_with",
    "evaluation_settings",
    "fetch_addresses",
    "join_ranks",
    "load_policy",
    "open_engine",
    "set_up_torch",
]
