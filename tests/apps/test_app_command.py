"""`mmrl app inspect` as a command: what it refuses, what it says, how it ends."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from mmrl_apps.inspector.app import build
from mmrl_apps.inspector.inspector import Inspector
from mmrl_apps.shared.serving import Serving, serve

from mmrl.cli.main import main
from tests.apps.made_run import make_run

COMMAND = (sys.executable, "-m", "mmrl", "app", "inspect")


def test_it_answers_and_ends_with_ctrl_c(tmp_path: Path):
    run = make_run(tmp_path)
    process = subprocess.Popen(
        [*COMMAND, str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background inherit its absence
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        address = told.split()[0]
        assert address.startswith("http://127.0.0.1:")  # the own machine's, whatever is not said
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert "mmrl inspector" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (0, 130)
    assert "Traceback" not in errors
    assert "leaked" not in errors


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "there is no such run folder"),
        (["{empty}"], "no run is there yet"),
        (["{empty}", "--share"], "makes the page public, and no password is set"),
        (["{empty}", "--host", "0.0.0.0"], "can be reached by others, and no password is set"),
        (["{empty}", "--password-file", "nowhere"], "cannot be read"),
        (["{empty}", "--port", "99999999"], "port"),
    ],
)
def test_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str):
    assert main(["app", "inspect", *(word.format(empty=tmp_path) for word in arguments)]) == 2
    errors = capsys.readouterr().err
    assert reason in errors
    assert errors.count("\n") == 1


def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "gradio" else found(name, *more)
    )
    assert main(["app", "inspect", str(tmp_path)]) == 2
    assert "not installed (gradio): pip install 'mmrl[apps]'" in capsys.readouterr().err


def test_help_loads_no_gradio():
    code = (
        "import sys; from mmrl.cli.main import main; main(['app', 'inspect', '--help']); print('gradio' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--password-file" in told
    assert told.splitlines()[-1] == "False"


def test_neither_a_proxy_nor_a_busy_machine_keeps_a_page_from_being_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Who sits behind a company's proxy has these variables set."""
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)  # as where no answer comes within 3 seconds
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.org")
    inspector = Inspector([make_run(tmp_path)])
    blocks = build(inspector)
    try:
        assert serve(blocks, Serving(), wait=False).startswith("http://127.0.0.1:")
    finally:
        blocks.close()
        inspector.close()
