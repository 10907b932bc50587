"""The built wheel, alone in an empty environment, runs the bandit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path) -> Path:
    """Returns the wheel of a copy of the package's sources."""
    source = folder / "source"
    source.mkdir()
    for name in ("pairbench", "algorithms", "tasks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_every_module_and_data_file_and_nothing_at_the_top(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build(tmp_path)).namelist())
    for folder, inside in (("pairbench", ""), ("algorithms", "algorithms/"), ("tasks", "tasks/")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                place = f"pairbench/{inside}{path.relative_to(ROOT / folder).as_posix()}"
                assert place in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"pairbench"}


@pytest.mark.slow
def test_the_wheel_runs_the_bandit_in_an_empty_environment(tmp_path: Path) -> None:
    wheel = build(tmp_path)
    place = tmp_path / "env"
    venv.create(place, with_pip=True)
    tools = place / "bin"
    constraints = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run(
        [tools / "pip", "install", "--quiet", *constraints, wheel], check=True, timeout=900
    )
    command = [
        tools / "pairbench", "run", "bandit", "--seeds", "0", "--algorithms", "grpo,hard-pair-grpo",
        "--workers", "1",
    ]  # fmt: skip
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=alone
    )
    assert ran.returncode == 0, ran.stderr
    shown = subprocess.run(
        [tools / "pairbench", "leaderboard", "--task", "preference-bandit", "--format", "json"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=600, env=alone,
    )  # fmt: skip
    rows = json.loads(shown.stdout)["rows"]
    assert {row["row"] for row in rows} == {"grpo", "hard-pair-grpo"}
    assert all(row["status"] == "finished" for row in rows)
