"""One small claim from data to verdict, stopped in between; and the page that is made of stored results."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from mmrl.claims.configs import as_run
from mmrl.claims.load import known_claims, load_claim
from mmrl.claims.results import ClaimResults, StoredInterval, StoredMachine, StoredSpent, StoredStatement, read_results
from mmrl.claims.schema import Claim, StageEntry
from mmrl.claims.unit import TRAINED
from mmrl.claims.verdict import Verdict
from mmrl.errors import RunError
from mmrl.progress import SilentProgress

ROOT = Path(__file__).parents[2]
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "write_claims_page.py"))
SPENT = StoredSpent(steps=1, updates=1, rollouts=1, tokens=1, seconds=1)
MACHINE = StoredMachine(
    processor="a processor",
    cores=2,
    memory_gib=8,
    gpu=None,
    system="Linux",
    processes=1,
    seconds=60,
    date="2026-01-02",
    versions={"mmrl": "0"},
)


def smallest() -> Claim:
    """The claim of the clip, cut to what shows that it runs."""
    changes = {
        "train": {"steps": 2, "checkpoint_every": 1, "warmup_steps": 0},
        "rollout": {"prompts_per_step": 4, "group_size": 4, "max_tokens": 8},
        "sft": {"steps": 2, "warmup_steps": 0, "samples_per_step": 4},
        "evaluation": {"limit": 6},
    }
    claim = as_run(load_claim("clip_higher", check=False), quick=True, seeds=1, changes=changes)
    dpo = StageEntry(learner="sft", set={**changes, "sft": {**changes["sft"], "preference": {"beta": 0.1}}})
    arms = {**claim.arms, "dpo": claim.arms["symmetric"].model_copy(update={"stages": (dpo,), "set": {}})}
    data = {"digits": claim.data["digits"].model_copy(update={"settings": ("limit=60",)})}
    return claim.model_copy(update={"arms": arms, "data": data})


@pytest.mark.slow
def test_a_claim_runs_stops_goes_on_and_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmrl.claims import runner, unit

    claim, out = smallest(), tmp_path / "out"

    def run(processes: int) -> ClaimResults:
        return runner.replicate(claim, out, quick=True, changes={}, processes=processes, progress=SilentProgress())

    done: list[tuple[int, str | None]] = []
    seconds: list[float] = []
    whole = unit.run_unit

    def stopped_after_two(replication: Any, seed: int, arm: str | None, progress: Any) -> None:
        if len(done) == 2:
            seconds.append(json.loads((out / runner.SECONDS_FILE).read_text()))  # what a kill would leave
            raise KeyboardInterrupt
        whole(replication, seed, arm, progress)
        done.append((seed, arm))

    monkeypatch.setattr(runner, "run_unit", stopped_after_two)
    with pytest.raises(KeyboardInterrupt):
        run(1)
    assert done == [(0, None), (0, "base")]
    start = out / "seed-0" / "start" / TRAINED
    first = start.stat().st_mtime_ns
    monkeypatch.undo()
    assert seconds[0] > 0

    results = run(2)  # the rest, in processes of their own
    assert start.stat().st_mtime_ns == first  # what was done is not done again
    assert read_results(out / "results.json") == results
    assert results.machine.seconds > seconds[0]
    assert results.verdict is Verdict.UNDECIDED  # one seed
    assert set(results.arms) == {"base", "symmetric", "higher", "dpo"}
    spent = results.arms["higher"].spent
    assert (spent.steps, spent.updates, spent.rollouts) == (2, 8, 2 * 4 * 4)
    assert 0 < spent.tokens <= 2 * 4 * 4 * 8
    assert results.arms["base"].spent.steps == 0
    assert results.arms["base"].measures["entropy"].mean is None
    assert results.arms["dpo"].spent.updates == 2
    assert results.arms["higher"].settings["higher"]["algorithm"]["surrogate"]["clip_high"] == 0.28
    text = (out / "results.json").read_text()
    assert str(tmp_path) not in text
    assert str(ROOT) not in text
    assert "| `higher`: " in (out / "results.md").read_text()
    assert (out / "results.svg").read_text().startswith("<?xml")

    fewer = {name: arm for name, arm in claim.arms.items() if name != "dpo"}
    verdict = tuple(entry for entry in claim.verdict if {entry.arm, entry.against} <= set(fewer))
    runner.replicate(
        claim.model_copy(update={"arms": fewer, "verdict": verdict}),
        out,
        quick=True,
        changes={},
        processes=1,
        progress=SilentProgress(),
    )
    changed = {**claim.arms, "dpo": claim.arms["dpo"].model_copy(update={"set": {"train": {"steps": 3}}})}
    with pytest.raises(RunError, match=r"other settings \(arms differ\)"):  # its runs of before are still there
        runner.replicate(
            claim.model_copy(update={"arms": changed}),
            out,
            quick=True,
            changes={},
            processes=1,
            progress=SilentProgress(),
        )
    other = claim.model_copy(update={"base": {**claim.base, "backend": {"threads": 2}}})
    with pytest.raises(RunError, match=r"other settings \(base differ\)"):
        runner.replicate(other, out, quick=True, changes={}, processes=1, progress=SilentProgress())


def stored(*, quick: bool = False) -> ClaimResults:
    """Results as a run would have left them, all statements alike."""
    claim = load_claim("clip_higher", check=False)
    statements = [
        StoredStatement(
            **entry.model_dump(),
            differences=(0.01,) * 5,
            interval=StoredInterval(value=0.01, low=0.005, high=0.015),
            verdict=Verdict.SUPPORTED,
            reason="the interval excludes 0",
        )
        for entry in claim.verdict
    ]
    return ClaimResults(
        claim=claim,
        quick=quick,
        changes={},
        seeds=(0, 1, 2, 3, 4),
        arms={},
        statements=tuple(statements),
        verdict=Verdict.SUPPORTED,
        cold_start=SPENT,
        machine=MACHINE,
    )


def test_the_page_and_the_readme_are_current() -> None:
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == TOOL["page"](), "run tools/write_claims_page.py"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert TOOL["readme"](readme) == readme, "run tools/write_claims_page.py"


def test_a_claim_without_results_is_not_run_and_one_with_them_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = TOOL["page"].__globals__
    monkeypatch.setitem(functions, "RESULTS", tmp_path)
    empty = TOOL["page"]()
    assert empty.count("**Not run** at full length yet") == len(known_claims())
    assert empty.count("| not run |") == len(known_claims())
    results = stored()
    (tmp_path / "clip_higher.json").write_text(results.model_dump_json())
    (tmp_path / "clip_higher.larger.json").write_text(results.model_dump_json())
    page = TOOL["page"]()
    assert page.count("**Not run**") == len(known_claims()) - 1
    assert "| supported | 5 | 2026-01-02 |" in page
    assert "| supported (larger) | 5 | 2026-01-02 |" in page
    assert "entropy, `higher` − `symmetric`: +0.010 [+0.005, +0.015]" in page
    assert "2026-01-02, 1.0 minutes, 1 at a time, on a processor, 2 cores" in page
    (tmp_path / "clip_higher.json").write_text(stored(quick=True).model_dump_json())
    with pytest.raises(SystemExit, match="a quick run decides nothing"):
        TOOL["page"]()

    reworded = results.claim.model_copy(update={"miniature": "words that were mended since"})
    (tmp_path / "clip_higher.json").write_text(results.model_copy(update={"claim": reworded}).model_dump_json())
    assert TOOL["page"]() == page
    longer = {**results.claim.base, "train": {**results.claim.base["train"], "steps": 400}}
    other = {"claim": results.claim.model_copy(update={"base": longer}), "changes": {"train": {"steps": 400}}}
    (tmp_path / "clip_higher.larger.json").write_text(results.model_copy(update=other).model_dump_json())
    assert 'Changed on the command line: `{"train": {"steps": 400}}`.' in TOOL["page"]()
    (tmp_path / "clip_higher.json").write_text(results.model_copy(update=other).model_dump_json())
    with pytest.raises(SystemExit, match=r"another claim than configs/claims/clip_higher\.yaml \(base differ\)"):
        TOOL["page"]()


def test_results_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(RunError, match="update mmrl"):
        read_results(path)
    path.write_text("{}")
    with pytest.raises(RunError, match="no results of `mmrl replicate`"):
        read_results(path)
