"""`mmrl train`: the reinforcement-learning stage alone."""

from __future__ import annotations

from mmrl.cli.options import ConfigFile, Overrides, Overwrite, Quiet, Resume, check_one_of


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Run the reinforcement-learning stage of a config.

    Ctrl-C stops after the current step and leaves a checkpoint; --resume goes on from the last one as if nothing had
    happened.

    \b
    Examples:
      mmrl train my.yaml model.path=runs/digits/cold_start
      mmrl train my.yaml --resume
    """
    from mmrl.cli.console import progress
    from mmrl.cli.interrupted import resumable
    from mmrl.config.load import load_config
    from mmrl.config.tree import shown

    check_one_of(resume, overwrite)
    loaded = load_config(config, overrides or ())
    with resumable(loaded):
        from mmrl.pipeline import train_stage

        model = train_stage(loaded, resume=resume, overwrite=overwrite, progress=progress(quiet=quiet))
    print(f"trained model: {shown(model)}")
