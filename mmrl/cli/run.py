"""`mmrl run`: everything a config describes, from data to report."""

from __future__ import annotations

from mmrl.cli.options import ConfigFile, Overrides, Overwrite, Quiet, Resume, check_one_of


def run(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole pipeline of a config.

    Data, cold start, reinforcement learning, evaluation before and after, report. What is done already is not done
    again with --resume, and Ctrl-C leaves a run that can go on.

    \b
    Examples:
      mmrl run configs/quickstart/digits.yaml
      mmrl run configs/quickstart/digits.yaml run.name=longer train.steps=300
      mmrl run configs/quickstart/digits.yaml --resume
    """
    from mmrl.cli.console import progress
    from mmrl.cli.interrupted import resumable
    from mmrl.cli.next_steps import before_and_after, next_steps
    from mmrl.config.load import load_config

    check_one_of(resume, overwrite)
    loaded = load_config(config, overrides or ())
    with resumable(loaded):
        from mmrl.pipeline import run_pipeline

        result = run_pipeline(loaded, resume=resume, overwrite=overwrite, progress=progress(quiet=quiet))
    table = before_and_after(result.run_dir)
    if table is not None:
        print(f"\n{table}\n")
    for purpose, what in next_steps(result.run_dir, loaded):
        print(f"{purpose + ':':<16}{what}")
