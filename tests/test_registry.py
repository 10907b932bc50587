"""Names are found without importing, near misses suggested, and a broken plug-in stays alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pairbench import registry
from pairbench.errors import PairBenchError
from pairbench.results.read import source_of
from pairbench.training.sources import sources

PLUGIN = Path(__file__).parent / "plugin_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in package, installed by pip into a folder of its own."""
    place = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PLUGIN, place / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(place / "site"), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return place / "site"


def pairbench(
    *arguments: str, site: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, with `site` on its path."""
    return subprocess.run(
        [sys.executable, "-m", "pairbench", *arguments],
        env={**os.environ, "PYTHONPATH": str(site or "")},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_built_in_names_are_found_without_importing_torch() -> None:
    script = (
        "import sys; from pairbench.registry import entries; "
        "print(*entries('algorithm')); print(*entries('task')); print('torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600
    )
    algorithms, tasks, torch_loaded = ran.stdout.splitlines()
    assert {"grpo", "ppo", "dpo", "orpo", "soft-pair-grpo"} <= set(algorithms.split())
    assert "preference-bandit" in tasks.split()
    assert torch_loaded == "False"


def test_a_listing_loads_no_language_library() -> None:
    """They take seconds, and what a list says of a method or a task is in its own file."""
    script = (
        "import sys; from pairbench.registry import listing; "
        "listing('algorithm'), listing('task'); print(*sys.modules)"
    )
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    loaded = set(ran.stdout.split())
    assert "pairbench.language.task" in loaded
    assert loaded.isdisjoint({"transformers", "datasets", "evaluate", "trl", "stable_baselines3"})


@pytest.mark.parametrize("kind", ["algorithm", "task"])
def test_a_listing_is_what_the_classes_say(kind: registry.Kind) -> None:
    get = registry.get_algorithm if kind == "algorithm" else registry.get_task
    listed = registry.listing(kind)
    assert [entry.name for entry in listed] == list(registry.entries(kind))
    for entry in listed:
        cls: Any = get(entry.name)
        assert entry.error is None
        assert (cls.name, cls.__module__) == (entry.name, entry.target)
        assert entry.summary == cls.__doc__.strip().splitlines()[0] != ""
        assert entry.source == cls.source
        assert entry.variants == tuple(getattr(cls, "variants", ()))


def test_a_file_without_its_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stray = registry.Entry("algorithm", "stray", "pairbench.algorithms.grpo")
    monkeypatch.setattr(registry, "entries", lambda kind: {"stray": stray})
    with pytest.raises(PairBenchError, match=r"algorithms\.grpo registers no algorithm 'stray'"):
        registry.get_algorithm("stray")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setattr(registry.importlib, "import_module", missing)
    with pytest.raises(PairBenchError, match=r"'transformers'; the package's extras bring it: pip"):
        registry.get_task("hh-rlhf")


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(PairBenchError, match=r"no algorithm 'gpro'; did you mean grpo"):
        registry.get_algorithm("gpro")
    with pytest.raises(PairBenchError, match=r"no task .*; did you mean preference-bandit"):
        registry.get_task("preference-bandits")
    with pytest.raises(PairBenchError, match=r"no variant 'noisey'; did you mean noisy"):
        registry.get_task("preference-bandit@noisey")


def test_a_family_of_tasks_makes_one_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    bandit = registry.get_task("preference-bandit")
    with pytest.raises(PairBenchError, match=r"'preference-bandit' stands alone: leave out ':x'"):
        registry.get_task("preference-bandit:x")
    of = lambda what: registry.specialised(bandit, what)  # noqa: E731 (a class method, in short)
    monkeypatch.setattr(bandit, "of", of, raising=False)
    made = registry.get_task("preference-bandit:x@noisy")
    assert issubclass(made, bandit) and made.name == "preference-bandit:x"
    assert registry.family_of("preference-bandit:x@noisy") == "preference-bandit"
    assert sources(made)[source_of(made.name)] == sources(bandit)[source_of(bandit.name)]


def test_a_plug_in_is_listed_and_runs_and_a_broken_one_is_named(
    installed: Path, tmp_path: Path
) -> None:
    listed = pairbench("list", "algorithms", "--format", "json", site=installed)
    assert listed.returncode == 0
    by_name = {item["name"]: item for item in json.loads(listed.stdout)}
    assert by_name["reinforce"]["origin"] == "pairbench-example"
    assert by_name["reinforce"]["summary"].startswith("REINFORCE (Williams 1992)")
    assert by_name["grpo"]["origin"] == "built in"
    assert "a_package_that_nobody_has" in by_name["broken"]["error"]

    used = pairbench(
        "run", "--algorithms", "broken", "--tasks", "preference-bandit", "--budget-steps", "100",
        site=installed, cwd=tmp_path,
    )  # fmt: skip
    assert used.returncode == 2
    assert used.stderr.count("\n") == 1
    assert "'broken' (pairbench-example) cannot be imported: ModuleNotFoundError" in used.stderr

    ran = pairbench(
        "run", "--algorithms", "reinforce", "--tasks", "preference-bandit,two-armed-bandit",
        "--budget-steps", "20000", "--workers", "1", "--results", "out",
        site=installed, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for task in ("preference-bandit", "two-armed-bandit"):
        (path,) = (tmp_path / "out" / task / "reinforce").glob("*.json")
        curve = json.loads(path.read_text())["curve"]
        assert curve[-1]["reward"] > curve[0]["reward"]  # it learns, through the same loop


class FakeDistribution:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[metadata.EntryPoint]]:
    """Entry points of algorithms that installed packages would declare."""
    points: list[Any] = []
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: points if group.endswith("algorithms") else []
    )
    registry.entries.cache_clear()
    yield points
    registry.entries.cache_clear()


def point(name: str, value: str, package: str) -> Any:
    found = metadata.EntryPoint(name, value, "pairbench.algorithms")
    return found._for(FakeDistribution(package))  # type: ignore[attr-defined]


def test_two_packages_with_one_name_are_both_named(
    entry_points: list[metadata.EntryPoint],
) -> None:
    entry_points += [point("twin", "a:A", "first"), point("twin", "b:B", "second")]
    entry_points += [point("grpo", "c:C", "third")]
    with pytest.raises(PairBenchError, match="both package first and package second"):
        registry.get_algorithm("twin")
    with pytest.raises(PairBenchError, match="both PairBench itself and package third"):
        registry.get_algorithm("grpo")
    assert registry.get_algorithm("ppo").name == "ppo"


def test_an_entry_point_must_agree_with_its_class(
    entry_points: list[metadata.EntryPoint],
) -> None:
    entry_points += [point("other", "pairbench.algorithms.grpo:GRPO", "some")]
    entry_points += [point("no-class", "json:loads", "some")]
    with pytest.raises(PairBenchError, match="calls itself 'grpo'"):
        registry.get_algorithm("other")
    with pytest.raises(PairBenchError, match="no Method of pairbench's"):
        registry.get_algorithm("no-class")
