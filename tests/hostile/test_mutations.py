"""Each mutation of a good record through every command: it is set aside, or it stops nobody."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pairbench
from pairbench.cli.main import main
from pairbench.evaluation import Guard, Measure
from pairbench.experiments import reproduce
from pairbench.experiments.launch.base import Ended, Event, Job
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.record import IDENTIFYING, RunRecord, digest
from tests.support.records import record

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 0.5, 1e100, 1.7e308, 1e-300, 2**63 - 1, 10**20, "", "inf", "NaN", "../../x",
    "\x1b[31m\u202e", "\ud800", "x" * 300, "=1+1", "x" * 20_000, [], [[]], {}, {"": 0},
    {"a": {"b": []}},
)  # fmt: skip

COMMANDS = (
    "leaderboard", "leaderboard --format json", "leaderboard --format csv --task t",
    "leaderboard --format latex --task t", "leaderboard --format html --task t",
    "leaderboard --format markdown", "leaderboard --site {out}/site", "leaderboard --overall",
    "compare grpo dpo --task t", "compare grpo dpo --task t --format json", "status",
    "status --format json", "plot curves --task t --out {out}/c.svg",
    "plot intervals --task t --out {out}/i.svg", "plot profile --out {out}/p.svg",
    "plot frontier --task t --out {out}/f.svg", "export --to tensorboard --out {out}/tb",
    "judge --judge gold --task t",
)  # fmt: skip

OF_ONE = ("show {one}", "show {one} --format json", "submit {file} --no-reproduce",
          "reproduce {one} --quick 1", "compare {file} {file}")  # fmt: skip


MEASURE = Measure(
    name="episode_length", title="length", meaning="Length", unit="steps", better=1,
    guard=Guard(floor=1.0, fails="is short", of="of it"), role="distance", levels=(500.0, 2000.0),
)  # fmt: skip


def good(row: str = "grpo", seed: int = 0) -> RunRecord:
    return record(row, seed, task="t", contexts=4, evaluations=2, measures=(MEASURE,))


def places(tree: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a tree of JSON; of lists of numbers, the first only."""
    if where:
        yield where
    if isinstance(tree, dict):
        for key, item in tree.items():
            yield from places(item, (*where, key))
    elif isinstance(tree, list) and tree:
        yield from places(tree[0], (*where, 0))


def mutated(where: tuple[Any, ...], value: Any, seed: int) -> tuple[str, bytes]:
    """A record with another value in one place, as its file; whoever can change it can hash."""
    tree = copy.deepcopy(good(seed=seed).model_dump(mode="json"))
    target = tree
    for key in where[:-1]:
        target = target[key]
    target[where[-1]] = value
    if where[0] in IDENTIFYING:
        tree["identity"] = digest({key: tree[key] for key in tree if key in IDENTIFYING})
    return re.sub(r"\W", "-", str(tree["identity"]))[:16] or "-", json.dumps(tree).encode()


def told(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """What a command prints, whatever its status; only a sentence may end it early."""
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    out, err = capsys.readouterr()
    assert ended.value.code in (0, 1, 2), command
    assert "Traceback" not in err
    return out + err


@pytest.fixture(autouse=True)
def rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs again come back as the good record at once."""

    class Back:
        def submit(self, job: Job) -> None:
            again = good(seed=0).model_copy(
                update=job.spec.model_dump() | {"identity": job.spec.identity}
            )
            self.event = Ended(again, {"loss": np.zeros(1, np.float32)})

        def poll(self, timeout: float) -> list[Event]:
            return [self.event]

    @contextmanager
    def workplace() -> Iterator[tuple[Back, Path]]:
        yield Back(), Path()

    monkeypatch.setattr(reproduce, "workplace", workplace)


def through_every_command(
    wheres: list[tuple[Any, ...]],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    step: int = 1,
    alone: bool = True,
) -> tuple[int, int]:
    """Puts mutations in these places beside good records, and asks for every so-manieth alone.

    Returns how many of them are records, and how many none.
    """
    results, out = folder / "results", folder / "out"
    out.mkdir()
    whole = [good(row, seed) for row in ("grpo", "dpo", "reference") for seed in range(3)]
    for one in whole:
        Store(results).write(one, {"loss": np.arange(3, dtype=np.float32)})
    files = []
    for number, where in enumerate(wheres):
        for at, value in enumerate(VALUES):
            if not alone and at % 4 != number % 4:
                continue
            name, data = mutated(where, value, 1000 + 100 * number + at)
            files.append(results / "t" / "x" / f"{number}-{at}" / f"{name}.json")
            files[-1].parent.mkdir(parents=True)
            files[-1].write_bytes(data)
    records, problems = load_records(results)
    assert {one.identity for one in whole} <= {one.identity for one in records}
    for problem in problems:
        assert "\n" not in problem and len(problem) < 800
    for command in COMMANDS:
        told(capsys, f"{command.format(out=out)} --results {results}")
    pairbench.query("SELECT count(*), sum(reward) FROM records", results).fetchall()
    known = {one.identity[:16] for one in records} - {one.identity[:16] for one in whole}
    for file in [file for file in files if file.stem in known][::step]:
        for command in OF_ONE:
            text = told(capsys, f"{command.format(one=file, file=file)} --results {results}")
            assert "\x1b" not in text
    return len(known), len(problems)


PLACES = list(places(good().model_dump(mode="json")))


@pytest.mark.slow
def test_many_mutations_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quarter of the values in each place; the slow test has all of them, each place alone."""
    records, none = through_every_command(PLACES, tmp_path, capsys, step=20, alone=False)
    assert records > 20 and none > 20


@pytest.mark.parametrize(
    ("where", "value", "why"),
    [(("evaluation", "scores"), {}, "has no scores"),
     (("evaluation", "scores", "mean"), [], "has no scores"),
     (("evaluation", "scores", "mean", 0), 1.7e308, "has measured more than 1e+100"),
     (("curve", 0, "reward"), -1.7e308, "has measured more than 1e+100"),
     (("cost", "seconds"), "inf", "cost.seconds: Input should be a valid number"),
     (("cost", "steps"), -5, "less than nothing"),
     (("task",), "t" * 300, "more than 200 bytes"),
     (("algorithm",), "\u00e9" * 150, "more than 200 bytes"),
     (("row",), "\ud800", "half a character"),
     (("provenance", "packages"), "x", "provenance.packages is no dict"),
     (("provenance", "torch_threads"), -1, "it had -1 threads"),
     (("seed",), "5", "seed: Input should be a valid integer")],
)  # fmt: skip
def test_what_no_record_of_ours_is_like_is_set_aside_with_a_sentence(
    where: tuple[Any, ...], value: Any, why: str, tmp_path: Path
) -> None:
    name, data = mutated(where, value, 0)
    (tmp_path / f"{name}.json").write_bytes(data)
    records, (problem,) = load_records(tmp_path)
    assert records == [] and why in problem


def test_folders_in_folders_without_end_are_named_and_left(tmp_path: Path) -> None:
    Store(tmp_path / "results").write(good())
    place = tmp_path / "results" / "deep"
    here = os.open(tmp_path / "results", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=here)
        inside = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    try:
        records, (problem,) = load_records(tmp_path / "results")
        assert len(records) == 1 and "Is a directory" in problem
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES, ids=lambda where: ".".join(map(str, where)))
def test_each_mutation_alone(
    where: tuple[Any, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    through_every_command([where], tmp_path, capsys)
