"""The part of ``--check`` about versions: Python, this package, and what it needs or can use."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

from ipython1.kernel.scripts.findings import Finding
from ipython1.version import __version__

GROUP: Final = "versions"

USES: Final = {
    "numpy": "arrays without copies",
    "pandas": "tables, which are split by rows and joined",
    "mpi4py": "engines under MPI",
    "ipykernel": "notebooks",
    "ipywidgets": "cards and progress in notebooks",
    "matplotlib-inline": "figures of engines in notebooks",
    "joblib": "the joblib backend",
    "distributed": "dask on the engines",
    "kubernetes": "engines as pods",
    "prometheus-client": "numbers for Prometheus",
}
"""What can be used, and for what."""

PYTHON: Final = (3, 11)


class Requirement(NamedTuple):
    """A package that this one names, with the lowest version that it was tried with."""

    name: str
    lowest: str


def requirements() -> tuple[list[Requirement], dict[str, Requirement]]:
    """Return what this package always needs, and the others by name, as its metadata says; empty without metadata."""
    try:
        lines = metadata.requires("ipython1") or []
    except metadata.PackageNotFoundError:
        lines = []
    always: list[Requirement] = []
    others: dict[str, Requirement] = {}
    for line in lines:
        match = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?\s*(?:>=\s*([\w.]+))?", line)
        if match is None:
            continue
        requirement = Requirement(match[1], match[2] or "")
        if "extra ==" in line:
            others.setdefault(requirement.name, requirement)
        else:
            always.append(requirement)
    return always, others


def check_versions() -> Iterator[Finding]:
    """Look at the versions of everything."""
    yield Finding(GROUP, "ipython1", "ok", f"{__version__} in {Path(__file__).parents[2]}")
    where = f"{platform.python_version()}, {sys.executable}"
    known = sys.version_info[:2] >= PYTHON
    wanted = "" if known else "; 3.11 or later is needed"
    yield Finding(GROUP, "Python", "ok" if known else "bad", where + wanted)
    if sys.flags.optimize:
        yield Finding(GROUP, "assertions", "bad", "start Python without -O and PYTHONOPTIMIZE")
    always, others = requirements()
    if not always:
        text = "this is a checkout that is not installed; install it with: pip install -e ."
        yield Finding(GROUP, "metadata", "missing", text)
    for requirement in always:
        yield _needed(requirement)
    for name, use in USES.items():
        yield _used(others.get(name, Requirement(name, "")), use)


def _needed(requirement: Requirement) -> Finding:
    name, lowest = requirement
    version = _version(name)
    if version and is_enough(version, lowest):
        return Finding(GROUP, name, "ok", f"{version} (from {lowest} on)" if lowest else version)
    problem = f"{version} is too old" if version else "missing"
    wanted = f"{name}>={lowest}" if lowest else name
    return Finding(GROUP, name, "bad", f"{problem}; install it with: pip install '{wanted}'")


def _used(requirement: Requirement, use: str) -> Finding:
    name, lowest = requirement
    version = _version(name)
    wanted = f"{name}>={lowest}" if lowest else name
    if not version:
        text = f"not installed ({use}); pip install '{wanted}'"
        return Finding(GROUP, name, "missing", text)
    if not is_enough(version, lowest):
        text = f"{version} is too old ({use}); pip install '{wanted}'"
        return Finding(GROUP, name, "missing", text)
    return Finding(GROUP, name, "ok", f"{version} ({use})")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def is_enough(version: str, lowest: str) -> bool:
    """Whether a version is at least another one, as far as their numbers say."""
    have, need = (
        [int(number) for number in re.findall(r"\d+", re.match(r"[\d.]*", text)[0])]  # type: ignore[index]
        for text in (version, lowest)
    )
    length = max(len(have), len(need))
    return have + [0] * (length - len(have)) >= need + [0] * (length - len(need))
