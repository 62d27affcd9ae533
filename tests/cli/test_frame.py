"""The command line as a whole: quick help, versions, exit codes."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from mmrl import __version__
from mmrl.cli.interrupted import resumable, resume_command
from mmrl.cli.main import COMMANDS, GROUPS, main
from mmrl.cli.outcome import Interrupted, finish
from mmrl.config.load import load_config
from mmrl.errors import DataError

HEAVY = ("torch", "transformers", "pydantic", "numpy", "PIL", "yaml", "scipy", "sklearn", "rich", "pyarrow")
ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "configs/quickstart/digits.yaml")

PAGES = [
    *((name,) for name in COMMANDS),
    *(
        (name, c.name or getattr(c.callback, "__name__", ""))
        for name, group in GROUPS.items()
        for c in group.registered_commands
    ),
]


def test_help_loads_nothing_heavy_and_is_quick():
    script = (
        "import sys; from mmrl.cli.main import main; code = main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    print(f"mmrl --help: {seconds:.2f} s")
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert seconds < 5  # half a second on a quiet machine; a heavy import takes longer than this on any


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_every_command_has_a_help_page_with_examples(page: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    assert main([*page, "--help"]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"Examples?:\n +mmrl {' '.join(page)}", printed)


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmrl {__version__}\n"


def test_without_arguments_the_help_page_is_shown(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("Usage: mmrl")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["rnu"], "no such command 'rnu'. Did you mean 'run'?"),
        (["run"], "missing argument 'CONFIG'"),
        (["run", QUICKSTART, "--fast"], "no such option: --fast"),
        (["run", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["run", "configs/quickstart"], "is a folder; name a YAML file in it: digits.yaml"),
        (["run", QUICKSTART, "train.step=3"], "override train.step=3: train.step: unknown key; did you mean"),
        (["run", QUICKSTART, "--resume", "--overwrite"], "exclude each other"),
        (["run", QUICKSTART, "--resume", "run.folder=/nonexistent"], "no run to resume"),
        (["sft", QUICKSTART, "sft=null"], "no `sft` section"),
        (["eval", "no/such/model", "--data", QUICKSTART], "there is no model folder no/such/model"),
        (["eval", "configs", "--data", QUICKSTART], "configs holds no model"),
        (["eval", "configs", "--data", "nowhere.jsonl"], "file 'nowhere.jsonl' does not exist"),
        (["generate", QUICKSTART, "--question", "?"], "is a file. A model is a folder"),
        (["generate", "configs", "--question", "?", "--image", "configs"], "'configs' is a directory"),
        (["export", "nowhere", "out"], "'nowhere' does not exist"),
        (["export", "configs", "out"], "no checkpoint"),
        (["explain", "gropo"], "unknown algorithm 'gropo'. Did you mean 'grpo'?"),
        (["list", "models"], "'models' is not one of"),
        (["model", "tiny", "configs"], "configs exists"),
        (["model", "tiny", "out", "--heads", "3"], "3 does not divide the hidden size 128"),
    ],
)  # fmt: skip
def test_a_mistake_gives_one_reason_and_code_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mmrl: ")
    assert reason in said.err
    assert said.err.count("\n") == 1


def test_a_mistake_in_a_real_process_leaves_no_traceback_and_no_control_codes():
    command = [sys.executable, "-m", "mmrl", "config", "check", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"TERM": "xterm"})
    assert done.returncode == 2
    assert done.stderr.startswith("mmrl: pyproject.toml")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def ending(error: BaseException) -> int:
    def command() -> None:
        raise error

    return finish(command)


def test_exit_codes_tell_whose_turn_it_is(capsys: pytest.CaptureFixture[str]):
    assert ending(DataError("line 3 has no answer")) == 2
    assert capsys.readouterr().err == "mmrl: line 3 has no answer\n"
    assert ending(OSError(28, "No space left on device", "runs/a/traces")) == 2
    assert capsys.readouterr().err.startswith("mmrl: runs/a/traces: No space left on device")
    assert ending(typer.BadParameter("too big", param_hint="--limit")) == 2
    assert ending(KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_defect_of_ours_shows_its_traceback_and_asks_for_a_report(capsys: pytest.CaptureFixture[str]):
    assert ending(ZeroDivisionError("ratio")) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError: ratio" in said
    assert "Please report it" in said


def test_interrupt_says_how_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = load_config(QUICKSTART, [f"run.folder={tmp_path}"])
    with pytest.raises(Interrupted, match="Nothing was written"), resumable(config):
        raise KeyboardInterrupt
    (tmp_path / "digits").mkdir()
    with (
        pytest.raises(Interrupted, match=rf"{tmp_path}/digits keeps what is done\. To go on: mmrl .*--resume"),
        resumable(config),
    ):
        raise KeyboardInterrupt
    assert ending(Interrupted("To go on: mmrl run a.yaml --resume")) == 130
    assert capsys.readouterr().err == "\nInterrupted. To go on: mmrl run a.yaml --resume\n"


def test_resume_command_keeps_overrides_and_drops_overwrite():
    assert (
        resume_command(["run", "a b.yaml", "--overwrite", "train.steps=3"])
        == "mmrl run 'a b.yaml' train.steps=3 --resume"
    )


@pytest.mark.parametrize(
    "wait",
    [
        "from mmrl.cli.main import app, main; from tempfile import TemporaryDirectory as made;"
        "app.command('wait')(hang); sys.exit(main(['wait']))",
        "from tools.bench.scratch import scratch_folder as made; hang()",
    ],
    ids=["command", "benchmark"],
)
def test_sigterm_leaves_no_temporary_folder(wait, tmp_path):
    hang = "def hang():\n    with made() as folder:\n        print(folder, flush=True); time.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys, time\n{hang}{wait}"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        folder = process.stdout.readline().strip()
        assert Path(folder).is_relative_to(tmp_path)
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert list(tmp_path.iterdir()) == []
