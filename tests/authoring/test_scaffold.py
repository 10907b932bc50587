"""A new plug-in as its author gets it: installed by pip, checked, tested, run beside others."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pairbench.algorithm import Algorithm
from pairbench.authoring.checks import NAMES, check
from pairbench.authoring.scaffold import FILES, class_name, new_algorithm
from pairbench.cli.main import main
from pairbench.errors import PairBenchError


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new package, written by the command line."""
    folder = tmp_path_factory.mktemp("new")
    with pytest.raises(SystemExit) as ended:
        main(["new", "algorithm", "trial-of-new", "--folder", str(folder)])
    assert ended.value.code == 0
    return folder / "trial-of-new"


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, installed by pip into a folder of its own, without a network."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(site), str(package)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return site


def python(*arguments: str, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs this Python with `site` on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
    )


def imported(path: Path) -> type[Algorithm]:
    """Returns the one algorithm class that a module defines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Algorithm)
        and value.__module__ == module.__name__
    )
    return found


def test_what_is_written(package: Path) -> None:
    files = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file())
    assert files == [
        "README.md", "pairbench_trial_of_new.py", "pyproject.toml", "tests/test_trial_of_new.py",
    ]  # fmt: skip
    project = tomllib.loads((package / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["pairbench.algorithms"]
    assert points == {"trial-of-new": "pairbench_trial_of_new:TrialOfNew"}
    readme = (package / "README.md").read_text()
    commands = readme.split("```bash\n")[1].split("```")[0].splitlines()
    assert len(commands) == 3
    assert commands[1] == "pairbench check trial-of-new"
    for path in package.rglob("*.*"):
        if path.is_file():
            text = path.read_text()
            assert "{{" not in text and "{%" not in text
            assert text.endswith("\n") and not text.endswith("\n\n")


def test_it_reads_as_well_as_ours(package: Path) -> None:
    rules = ["--isolated", "--line-length", "100"]
    for command in (
        ["check", *rules, "--select", "B,C4,E,F,I,N,PIE,PT,RUF,SIM,UP,W", "."],
        ["format", *rules, "--check", "."],
    ):
        ran = python("-m", "ruff", *command, "--no-cache", site=package, cwd=package)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_installed_it_is_listed_and_has_a_row(installed: Path, tmp_path: Path) -> None:
    listed = python("-m", "pairbench", "list", "algorithms", site=installed, cwd=tmp_path)
    assert "trial-of-new" in listed.stdout and "[pairbench-trial-of-new]" in listed.stdout
    ran = python(
        "-m", "pairbench", "run", "--algorithms", "trial-of-new,random", "--tasks",
        "preference-bandit", "--budget-steps", "5000", "--workers", "1", "--results", "out",
        site=installed, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (path,) = (tmp_path / "out" / "preference-bandit" / "trial-of-new").glob("*.json")
    record = json.loads(path.read_text())
    assert record["provenance"]["packages"]["pairbench-trial-of-new"] == "0.1.0"
    board = python(
        "-m", "pairbench", "leaderboard", "--task", "preference-bandit", "--results", "out",
        "--format", "json", site=installed, cwd=tmp_path,
    )  # fmt: skip
    rows = [row["row"] for row in json.loads(board.stdout)["rows"]]
    assert rows == ["trial-of-new", "random"]


def test_installed_it_passes_the_check(installed: Path, tmp_path: Path) -> None:
    said = python("-m", "pairbench", "check", "trial-of-new", site=installed, cwd=tmp_path)
    assert said.returncode == 0, said.stdout
    assert said.stdout.endswith(f"{len(NAMES)} passed, 0 failed, 0 skipped\n")


def test_its_own_tests_pass_and_find_a_mistake(installed: Path, package: Path) -> None:
    quick = ["-k", "not bandit and not learning", "-p", "no:cacheprovider"]
    ran = python("-B", "-m", "pytest", "-q", *quick, site=installed, cwd=package)
    assert f"{len(NAMES) - 1} passed, 2 deselected" in ran.stdout, ran.stdout
    module = package / "pairbench_trial_of_new.py"
    text = module.read_text()
    wrong = text.replace("-objectives.masked_mean(gain, batch.mask)", "-gain.mean()")
    assert wrong != text
    module.write_text(wrong)
    try:
        ran = python("-B", "-m", "pytest", "-q", *quick, site=package, cwd=package)
    finally:
        module.write_text(text)
    assert "FAILED tests/test_trial_of_new.py::test_contract[padding]" in ran.stdout
    assert "masked steps get a gradient" in ran.stdout
    assert "FAILED tests/test_trial_of_new.py::test_the_loss_of_a_group_of_two" in ran.stdout


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("loss", "LossMethod"),
        ("none", "NoneMethod"),
        ("policy-output", "PolicyOutputMethod"),
        ("json", "Json"),
        ("a2c-4-2", "A2c42"),
        ("x", "X"),
    ],
)
def test_awkward_names_work(name: str, cls: str, tmp_path: Path) -> None:
    assert class_name(name) == cls
    written = new_algorithm(name, tmp_path)
    assert len(written) == len(FILES)
    (module,) = (tmp_path / name).glob("*.py")
    found = imported(module)
    assert (found.__name__, found.name) == (cls, name)
    assert all(finding.passed for finding in check(found, only=("documents", "gradient")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Method", "is no name for an algorithm"),
        ("trial_of_new", "is no name for an algorithm"),
        ("my--method", "is no name for an algorithm"),
        ("2fast", "is no name for an algorithm"),
        ("../up", "is no name for an algorithm"),
        ("", "is no name for an algorithm"),
        ("m" * 41, "is no name for an algorithm"),
        ("grpo", "grpo is an algorithm of PairBench itself already"),
        ("preference-bandit", "preference-bandit is a task of PairBench itself already"),
        ("there", "is there already: choose another name or --folder"),
    ],
)
def test_a_name_that_will_not_do_is_one_sentence_and_writes_nothing(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["new", "algorithm", "--folder", str(tmp_path), "--", name])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert message in said.err and said.err.count("\n") == 1
    assert said.out == ""
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that is read-only")
def test_a_folder_that_cannot_be_written_is_one_sentence() -> None:
    with pytest.raises(PairBenchError, match="cannot be written"):
        new_algorithm("trial-of-new", Path("/proc"))
