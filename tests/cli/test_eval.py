"""`mmrl eval` from the command line, with a real (tiny, untrained) model and with stored predictions."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmrl import build
from mmrl.cli.main import main
from mmrl.data.manifest import write_manifest
from mmrl.types import Answer, Media, Sample
from tests.toy import choice_sample


@pytest.fixture(scope="module")
def run_folder(tiny_folder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a model in it, samples that it trained, one with a broken picture, and others it did not train."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "broken.png").write_bytes(pictures[0].read_bytes()[:40])
    asked = [choice_sample(f"s{i}", [pictures[i % 2]], question=f"Which {i}?") for i in range(3)]
    write_manifest(folder / "test.jsonl", [*asked, choice_sample("broken", [folder / "broken.png"])])
    other = Sample(
        id="n",
        task="count",
        question="How many?",
        media=(Media(type="image", path=str(pictures[2])),),
        answer=Answer(type="number", value=3.0),
    )
    write_manifest(folder / "other.jsonl", [other])
    config = {
        "run": {"name": "mine", "folder": str(folder.parent)},
        "model": {"path": str(tiny_folder)},
        "data": {"train": str(folder / "test.jsonl"), "test": str(folder / "test.jsonl")},
        "rewards": {"default": [{"name": "choice"}, {"name": "format", "weight": 0.5}]},
        "rollout": {"max_tokens": 6},
        "evaluation": {"samples_per_prompt": 2, "ks": [1, 2]},
        "backend": {"threads": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copytree(tiny_folder, folder / "model")
    return folder


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["eval", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_two_models_with_likelihoods_untrained_tasks_and_every_output(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: list[str | Path] = [
        run_folder / "model", "--data", run_folder / "test.jsonl", "--against", run_folder / "model",
        "--forgetting", run_folder / "other.jsonl", "--likelihood", "own", "--seeds", "2", "--samples", "2",
        "--store", tmp_path / "store", "--out", tmp_path / "found.json", "--markdown", tmp_path / "found.md",
        "--into", tmp_path / "seen", "--name", "mine",
    ]  # fmt: skip
    code, out, err = evaluated(capsys, *arguments)
    assert code == 0, err
    assert "Not trained, before and after: other" in out
    assert "1 of 4 samples dropped (media: " in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["after"]["settings"]["seeds"] == 2
    assert found["comparison"]["overall"]["difference"]["value"] == 0.0
    assert found["after"]["facts"]["weights_sha256"] == found["before"]["facts"]["weights_sha256"]
    assert found["untrained"]["other"]["after"]["overall"]["measures"]["mra"]["value"] == 0.0
    assert "scored by number" in err
    page = (tmp_path / "found.md").read_text()
    assert "## Before and after" in page
    assert "data_sha256" in page.replace(" ", "_")
    assert sorted(p.name for p in (tmp_path / "seen" / "evaluation").glob("*.json")) == [
        "mine.json", "model.json", "untrained_other_mine.json", "untrained_other_mine_against.json",
    ]  # fmt: skip
    again, out_again, err_again = evaluated(capsys, *arguments)
    assert (again, out_again) == (0, out)
    assert "0 generated" in err_again
    _inspected(tmp_path / "seen")


def _inspected(folder: Path) -> None:
    """The inspector opens what --into wrote: evaluations side by side, and the completions."""
    pytest.importorskip("gradio")
    from mmrl_apps.inspector.compare_page import compare_html, sides
    from mmrl_apps.inspector.inspector import Inspector

    inspector = Inspector([folder])
    try:
        inspector.refresh()
        name = inspector.names[0]
        assert {f"{name} · mine", f"{name} · model"} <= set(sides(inspector))
        page, _, _ = compare_html(inspector, f"{name} · model", f"{name} · mine", outcome="all")
        assert "s0" in page
        facets = inspector.run(name).index.facets()
        assert (facets.groups, facets.rollouts) == (4, 3)  # the broken picture is there, with its reason
    finally:
        inspector.close()


def test_sampled_decoding_and_overrides(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = evaluated(
        capsys, run_folder / "model", "rollout.max_tokens=3", "--data", run_folder / "other.jsonl", "--config",
        run_folder / "config.yaml", "--decoding", "sampled", "--samples", "3", "--temperature", "0.5", "--top-p", "0.9",
        "--k", "1", "--k", "3", "--no-store", "--out", tmp_path / "found.json",
    )  # fmt: skip
    assert code == 0, err
    settings = json.loads((tmp_path / "found.json").read_text())["settings"]
    assert (settings["decoding"], settings["temperature"], settings["top_p"]) == ("sampled", 0.5, 0.9)
    assert (settings["max_tokens"], settings["ks"]) == (3, [1, 3])
    assert not (tmp_path / "store").exists()


def test_one_model_at_a_time_is_in_memory_and_a_named_reference_is_loaded_once(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    first: list[weakref.ref[Any]] = []
    alive: list[bool] = []
    load = build.load_policy

    def watched(config: Any, path: str, **more: Any) -> Any:
        alive.extend(policy() is not None for policy in first)
        loaded.append(path)
        model = load(config, path, **more)
        if len(loaded) == 1:
            first.append(weakref.ref(model.policy.model))
        return model

    monkeypatch.setattr(build, "load_policy", watched)
    shutil.copytree(run_folder / "model", run_folder / "reference", dirs_exist_ok=True)
    code, _, err = evaluated(
        capsys, run_folder / "model", "--against", run_folder / "model", "--data", run_folder / "other.jsonl",
        "--likelihood", run_folder / "reference", "--samples", "1", "rollout.max_tokens=3", "--no-store",
    )  # fmt: skip
    assert code == 0, err
    assert [Path(path).name for path in loaded] == ["model", "reference", "model"]
    assert alive == [True, False]  # the first model when its reference was loaded, and when the second model was


def test_a_task_with_answers_of_several_kinds_is_evaluated(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(name: str, answer: Answer) -> Sample:
        choices = ("one", "two") if answer.type == "choice" else ()
        return Sample(id=name, task="room", question="?", choices=choices, answer=answer)

    mixed = [
        sample("n", Answer(type="number", value=3.0)),
        sample("c", Answer(type="choice", value="B")),
        sample("s", Answer(type="span", value=(1.0, 2.0))),
    ]
    out = tmp_path / "found.json"
    for i, samples in enumerate((mixed, mixed[::-1])):
        write_manifest(tmp_path / f"{i}.jsonl", samples)
        code, _, err = evaluated(
            capsys, run_folder / "model", "--data", tmp_path / f"{i}.jsonl", "--samples", "1", "rollout.max_tokens=3",
            "--no-store", "--out", out,
        )  # fmt: skip
        assert code == 0, err
        body = json.loads(out.read_text())
        assert list(body["tasks"]) == ["room"]
        assert body["overall"]["drop_reasons"] == {}
        assert "answers of type number; scored by number" in err
        assert "answers of type span; scored by temporal_iou" in err


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_stored_predictions_by_a_benchmarks_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rows(*said: str) -> list[dict[str, Any]]:
        about = {"question_type": "object_rel_distance", "ground_truth": "B"}
        return [{"id": f"q{i}", "prediction": text, **about} for i, text in enumerate(said)]

    after = lines(tmp_path / "after.jsonl", rows("B", "B.", "A"))
    before = lines(tmp_path / "before.jsonl", rows("A", "B", "B"))
    code, out, err = evaluated(capsys, "--predictions", after, "--rules", "vsi_bench", "--against", before)
    assert code == 0, err
    assert "won: q0" in out
    assert "lost: q2" in out
    assert "66.7 %" in out


def test_a_model_from_elsewhere_is_asked_plainly(
    run_folder: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "model")
    given: list[str | Path] = [tmp_path / "model", "--data", run_folder / "test.jsonl", "--no-store", "--limit", "1"]
    for more, mode in (([], "think_answer"), (["prompt.mode=answer"], "answer")):
        out = tmp_path / f"{mode}.json"
        code, _, err = evaluated(capsys, *given, "--samples", "1", "rollout.max_tokens=3", *more, "--out", out)
        assert code == 0, err
        assert f"lies in no run folder: it is asked by prompt.mode={mode}" in err
        assert json.loads(out.read_text())["facts"]["prompt_mode"] == mode


def test_figures_are_told_apart_by_a_key_that_is_there(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"prediction": "B", "ground_truth": "B", "question_type": "route_planning"}
    file = lines(tmp_path / "x.jsonl", [{**about, "scene": scene} for scene in ("attic", "attic", "cellar")])
    given: list[str | Path] = ["--predictions", file, "--rules", "vsi_bench"]
    code, out, err = evaluated(capsys, *given, "--by", "scene")
    assert code == 0, err
    assert "attic" in out
    assert "cellar" in out
    code, _, err = evaluated(capsys, *given, "--by", "scnee")
    assert code == 2
    assert "unknown key of metadata 'scnee'. Did you mean 'scene'?" in err
    code, _, err = evaluated(capsys, run_folder / "model", "--data", run_folder / "test.jsonl", "--by", "scene")
    assert code == 2
    assert "no sample has metadata to look for 'scene' in" in err


def test_stored_predictions_by_rewards_of_a_manifest(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [{"id": "s0", "prediction": ["<think>A</think><answer>A</answer>", "<answer>B</answer>"]}]
    said += [{"id": "s1", "prediction": ["none", "<answer>A</answer>"]}]
    file = lines(tmp_path / "said.jsonl", said)
    out = tmp_path / "found.json"
    code, _, err = evaluated(capsys, "--predictions", file, "--data", run_folder / "test.jsonl", "--out", out)
    assert code == 0, err
    found = json.loads(out.read_text())
    assert found["overall"]["accuracy"]["value"] == 0.25  # of four samples two have no prediction: wrong
    assert found["overall"]["drop_reasons"] == {"rollout: no rollouts came back": 2}
    assert found["overall"]["pass_at"]["2"]["value"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give MODEL and --data, or --predictions"),
        (["--predictions", "x.jsonl", "--rules", "vsi_bnch"], "Did you mean 'vsi_bench'"),
        (["--predictions", "x.jsonl"], "has no 'answer'"),
        (["--predictions", "x.jsonl", "--rules", "vsi_bench", "--out", "no/where.json"], "there is no folder"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "x.jsonl", [{"prediction": "B", "question_type": "route_planning", "ground_truth": "B"}])
    code, _, err = evaluated(capsys, *arguments)
    assert code == 2
    assert said in err
