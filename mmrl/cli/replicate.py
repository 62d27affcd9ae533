"""`mmrl replicate`: a paper's claim, tried in miniature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.options import Overrides, Quiet


def replicate(
    claim: Annotated[
        str | None,
        typer.Argument(metavar="CLAIM", help="A name, or a YAML file; without it the claims are listed."),
    ] = None,
    overrides: Overrides = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes, not a quarter of an hour and more; too little for a verdict.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many; default: the claim's.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: runs/claims/CLAIM, or CLAIM-quick.", show_default=False),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; default: one per core, on a GPU one.", show_default=False)
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Try a paper's claim in miniature: every arm × every seed from the same cold start, and a verdict by a rule
    written down before (the claim's file).

    A replication that was stopped or killed goes on when the same command is given again.

    \b
    Examples:
      mmrl replicate
      mmrl replicate clip_higher --quick
      mmrl replicate clip_higher --seeds 8
      mmrl replicate clip_higher model.tiny.hidden_size=256 train.steps=400 --out runs/claims/clip_higher-larger
    """
    from mmrl.claims.configs import as_run, check_configs, settings_of
    from mmrl.claims.load import known_claims, load_claim
    from mmrl.claims.plot import check_can_plot
    from mmrl.cli.console import print_table, progress
    from mmrl.cli.interrupted import continued
    from mmrl.config.tree import shown

    if claim is None:
        loaded = [load_claim(name, check=False) for name in known_claims()]
        rows = [(c.name, f"arXiv:{c.source.paper}", f"{len(c.arms)} × {c.seeds}", c.question) for c in loaded]
        print_table(("claim", "paper", "arms × seeds", "question"), rows)
        return
    check_can_plot()
    changes = settings_of(overrides or ())
    tried = as_run(load_claim(claim), quick=quick, seeds=seeds, changes=changes)
    check_configs(tried)
    folder = out or Path("runs") / "claims" / f"{tried.name}{'-quick' if quick else ''}"
    with continued(folder):
        from mmrl.claims.runner import replicate as run
        from mmrl.claims.table import measures_table, statements_table

        results = run(
            tried,
            folder,
            quick=quick,
            changes=changes,
            processes=processes or default_processes(),
            progress=progress(quiet=quiet),
        )
    print(f"{results.claim.question}\n\n{measures_table(results)}\n\n{statements_table(results)}\n")
    print(f"verdict:  {results.verdict.value}{' (a quick run decides nothing)' if quick else ''}")
    print(f"results:  {shown(folder)}/results.md, results.json, results.svg")


def default_processes() -> int:
    """One per core; one where there is a GPU, which they would share."""
    import os

    import torch

    if torch.cuda.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
