"""`mmrl data build` and the help pages of all its verbs."""

import pytest
import typer
from typer.testing import CliRunner

from mmrl.cli.data import app
from mmrl.errors import RunError


def run(*arguments: object) -> str:
    """What a command prints on stdout; its errors are raised, as the main command line expects."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_build_again_changes_nothing_and_another_seed_is_refused(tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("name: tiny\nbuilder: digits\nsplits: {train: 9, test: 1}\noptions: {size: 8, limit: 100}\n")
    out = tmp_path / "out"
    assert "90" in run("build", recipe, "--out", out, "--quiet")
    assert "already there" in run("build", recipe, "--out", out, "--quiet")
    with pytest.raises(RunError):
        run("build", recipe, "--out", out, "--seed", "1", "--quiet")


def test_every_command_has_a_help_page_with_an_example():
    group = typer.main.get_command(app)
    assert set(group.commands) >= {"build", "validate", "stats", "preview"}  # type: ignore[attr-defined]
    for name in group.commands:  # type: ignore[attr-defined]
        assert f"mmrl data {name}" in run(name, "--help")
