"""Writes docs/claims.md and the README's summary from the stored results: `python tools/write_claims_page.py`.

    python tools/write_claims_page.py --take runs/claims/clip_higher       # store a finished replication first
    python tools/write_claims_page.py --take runs/claims/clip_higher-larger --as clip_higher.larger

Results lie in docs/claims/results/<claim>.json, a further run of the same claim (another machine, a larger model) in
<claim>.<label>.json; their plots beside them. A claim without results is shown as not run: no number is ever written
here that no run gave. Words are those of the claim's file; a result whose settings, measures or rules are not the
file's is refused without a label.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mmrl.claims.collect import without_paths
from mmrl.claims.load import known_claims, load_claim
from mmrl.claims.results import ClaimResults, read_results
from mmrl.claims.runner import decides_runs
from mmrl.claims.schema import Claim
from mmrl.claims.table import MARKS, machine_line, results_body

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "claims" / "results"
PAGE = ROOT / "docs" / "claims.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- claims: written by tools/write_claims_page.py -->", "<!-- end of claims -->"
NOT_RUN = "not run"

INTRODUCTION = """\
<!-- Written by tools/write_claims_page.py from docs/claims/results/; do not edit by hand. -->
# Papers' claims, in miniature

Every learner here comes from a paper that claims something. `mmrl replicate CLAIM` tries that claim at laptop scale:
arms × seeds from the same cold start, on real digits and generated worlds, with a rule for the verdict that is written
down in the claim's file before anything runs.

```bash
mmrl replicate                        # the claims
mmrl replicate clip_higher --quick    # a few minutes: does it run? Never enough for a verdict
mmrl replicate clip_higher            # the whole claim; stopped or killed, the same command goes on
mmrl replicate my_claim.yaml          # one of your own: configs/claims/ has the pattern
```

**How a verdict is made.** A statement compares one measure of two arms. Runs of one seed share cold start, data and
order, so the difference is taken seed by seed, and its mean gets an interval over seeds (Student's t unless the claim
says otherwise). *Higher* or *lower* is supported where the interval excludes 0 and the mean is at least the least
effect that the claim names, and not supported where it excludes that effect. *Not lower* by more than a margin is
supported where the interval lies above minus the margin, and not supported where it lies below. All else is undecided,
and so is everything with fewer than five seeds. A claim is supported where all its statements are, not supported where
one is not (`mmrl/claims/verdict.py`). Ablations are looked at beside, without a say.

**What a verdict means.** That a tiny model on a small task showed the effect, or did not, under the settings below. A
claim that is not supported here may hold at its own scale, and one that is supported may not; each section says what
stands for what. Settings are chosen so that the baseline learns (or, where a claim is about ruin, is
ruined), before arms are compared, and not for a verdict.
"""


def page() -> str:
    """What docs/claims.md should hold."""
    claims = {name: load_claim(path, check=False) for name, path in known_claims().items()}
    stored = stored_results()
    pieces = [INTRODUCTION, summary(claims, stored, ""), ""]
    for name, claim in claims.items():
        pieces += [f"## {name}\n", f"*{claim.question}*\n"]
        if not any(own == name for own, _ in stored):
            pieces += [_not_run(claim), ""]
        for (own, label), results in stored.items():
            if own == name:
                results = results if label else told_as_in_file(results, claim)
                pieces += [f"### {label}\n"] if label else []
                pieces += [results_body(results, plot=f"claims/results/{_stem(own, label)}.svg")]
        pieces += [f"Settings: [`configs/claims/{name}.yaml`](../configs/claims/{name}.yaml).\n"]
    return "\n".join(pieces).rstrip() + "\n"


def readme(text: str) -> str:
    """The README with its summary as it should be."""
    claims = {name: load_claim(path, check=False) for name, path in known_claims().items()}
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"README.md must hold {BEGIN} and {END} once each: the summary stands between them.")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{summary(claims, stored_results(), 'docs/claims.md')}\n{END}{after}"


def summary(claims: dict[str, Claim], stored: dict[tuple[str, str], ClaimResults], page: str) -> str:
    """One row per claim and result. page: where the sections are."""
    rows = ["| claim | of | verdict | seeds | date |", "|---|---|---|---|---|"]
    for name, claim in claims.items():
        title = f"[{claim.question}]({page}#{name})"
        of = f"{claim.source.title}, arXiv:{claim.source.paper}"
        found = [(label, results) for (own, label), results in stored.items() if own == name]
        if not found:
            rows.append(f"| {title} | {of} | {NOT_RUN} | – | – |")
        for label, results in found:
            verdict = MARKS[results.verdict] + (f" ({label})" if label else "")
            rows.append(f"| {title} | {of} | {verdict} | {len(results.seeds)} | {results.machine.date} |")
    return "\n".join(rows)


def stored_results() -> dict[tuple[str, str], ClaimResults]:
    """(claim, label) → results, in the order of names."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        results = read_results(path)
        name, _, label = path.stem.partition(".")
        if results.quick:
            raise SystemExit(f"{path}: a quick run decides nothing and does not belong into the docs.")
        if results.claim.name != name:
            raise SystemExit(f"{path}: these are results of {results.claim.name}; the file must begin with that name.")
        found[name, label] = results
    return found


def told_as_in_file(results: ClaimResults, claim: Claim) -> ClaimResults:
    """The results with the words of the claim's file, which may have been mended since. All else must be the file's."""
    file = without_paths(claim)
    before, now = _decisive(results.claim), _decisive(file)
    if differing := [key for key in now if before[key] != now[key]]:
        raise SystemExit(
            f"{claim.name}: the stored results are of another claim than configs/claims/{claim.name}.yaml "
            f"({', '.join(differing)} differ). Run it again (or have its runs read out again) and --take it; or store "
            f"it as --as {claim.name}.LABEL."
        )
    arms = {name: arm.model_copy(update={"says": file.arms[name].says}) for name, arm in results.arms.items()}
    statements = [
        each.model_copy(update={"says": entry.says})
        for each, entry in zip(results.statements, file.verdict, strict=True)
    ]
    return results.model_copy(update={"claim": file, "arms": arms, "statements": tuple(statements)})


def _decisive(claim: Claim) -> dict[str, Any]:
    """What of a claim its numbers depend on: all but words."""
    fields: dict[str, Any] = decides_runs(claim)
    for key in ("measures", "verdict"):
        entries = claim.model_dump(mode="json")[key]
        for entry in entries.values() if key == "measures" else entries:
            entry.pop("says")
        fields[key] = entries
    return {**fields, "rule": claim.rule.model_dump(mode="json"), "seeds": claim.seeds}


def take(folder: Path, name: str | None) -> None:
    """Store a finished replication's results and plot."""
    results = read_results(folder / "results.json")
    stem = name or results.claim.name
    if results.quick:
        raise SystemExit(f"{folder} is a quick run: it decides nothing and does not belong into the docs.")
    if re.split(r"\.", stem)[0] != results.claim.name:
        raise SystemExit(f"--as {stem}: must be {results.claim.name}, or {results.claim.name}.LABEL.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "results.json", RESULTS / f"{stem}.json")
    shutil.copyfile(folder / "results.svg", RESULTS / f"{stem}.svg")
    print(f"{stem}: {results.verdict.value}; {machine_line(results)}", file=sys.stderr)


def _not_run(claim: Claim) -> str:
    return (
        f"**Not run** at full length yet: `mmrl replicate {claim.name}`.\n\n"
        f"Claimed by {claim.source.title} ([arXiv:{claim.source.paper}](https://arxiv.org/abs/{claim.source.paper})): "
        f"{claim.source.says.strip()}\n\nIn miniature: {claim.miniature.strip()}"
    )


def _stem(name: str, label: str) -> str:
    return f"{name}.{label}" if label else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", metavar="FOLDER", type=Path, help="a finished replication to store first")
    parser.add_argument("--as", dest="name", metavar="CLAIM.LABEL", help="under this name; default: the claim's")
    arguments = parser.parse_args()
    if arguments.take is not None:
        take(arguments.take, arguments.name)
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(known_claims())} claims, {len(stored_results())} results", file=sys.stderr)


if __name__ == "__main__":
    main()
