"""Whole runs and what is done with their models: the functions behind the commands.

`stages.py` data → cold start → RL → evaluation → report · `run_folder.py` where they write · `evaluating.py` models
side by side, what an inspector opens · `models.py` ask · `export.py` take along.
"""

from mmrl.pipeline.evaluating import evaluate_models, evaluate_on
from mmrl.pipeline.export import export_run
from mmrl.pipeline.models import config_of_model, generate_answer
from mmrl.pipeline.stages import PipelineResult, Stopped, cold_start_stage, run_pipeline, train_stage

__all__ = [
    "PipelineResult",
    "Stopped",
    "cold_start_stage",
    "config_of_model",
    "evaluate_models",
    "evaluate_on",
    "export_run",
    "generate_answer",
    "run_pipeline",
    "train_stage",
]
