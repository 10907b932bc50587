"""Where a number comes from: code, versions, machine and thread counts of the run that made it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pairbench.algorithm import Method
    from pairbench.task import Task
    from pairbench.training.engine import Engine

PACKAGES = ("pairbench", "torch", "numpy", "pydantic")
"""Distributions every run depends on; an algorithm or a task adds its own."""

FOLDERS = ("pairbench", "algorithms", "tasks")


def provenance(threads: int, *parts: type[Method] | type[Task] | type[Engine]) -> dict[str, Any]:
    """Returns JSON of the present process: nothing in it names a user, a host or a path.

    Args:
        parts: the classes a run is made of, whose `packages`, and whose own distribution where they
            come from elsewhere, are listed beside `PACKAGES`.
    """
    commit, changed = _git()
    names = {*PACKAGES, *(name for part in parts for name in part.packages)}
    outside = {top for part in parts if (top := part.__module__.split(".")[0]) != "pairbench"}
    if outside:
        origin = metadata.packages_distributions()
        names |= {name for top in outside for name in origin.get(top, ())}
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": commit,
        "git_changed": changed,
        "python": platform.python_version(),
        "packages": {name: version for name in sorted(names) if (version := _version(name))},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "device": "cpu",
        "torch_threads": torch.get_num_threads(),
        "simulation_threads": threads,
    }


def code_version(origin: Mapping[str, Any], read: Mapping[str, str]) -> dict[str, Any]:
    """Returns what a run's bits depend on of its `provenance`, and all that it has read.

    A resumed run must find the same again.
    """
    names = ("python", "packages", "cpu", "torch_threads")
    return {"read": dict(read), **{name: origin[name] for name in names}}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git() -> tuple[str | None, bool | None]:
    """The commit of the source tree and whether its code differs from it; None outside git."""
    root = Path(__file__).resolve().parent.parent.parent
    code = [name for name in FOLDERS if (root / name).is_dir()]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _ask(root, "rev-parse", "HEAD").strip()
        status = _ask(root, "status", "--porcelain", "--", *code)
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(status.strip())


def _ask(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True
    ).stdout


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
