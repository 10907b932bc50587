"""A submission: sound ones pass with a board and a text, and each thing wrong is found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pairbench
from pairbench.cli.main import main
from pairbench.experiments import submission as submit
from pairbench.results.columns import read_series, write_series
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.marks import Reproduction
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json, read_record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of GRPO, and the reference, on the bandit."""
    folder = tmp_path_factory.mktemp("submit") / "made"
    pairbench.run(
        algorithms=["grpo", "reference", "sb3-ppo"], tasks=["preference-bandit"], seeds="0-2",
        budget={"steps": 3000}, results=folder, workers=1,
    )  # fmt: skip
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "mine", ignore=shutil.ignore_patterns(".*")))


def files(folder: Path, algorithm: str = "grpo") -> list[Path]:
    """Returns the records of an algorithm in a folder, by seed."""
    found = (folder / "preference-bandit" / algorithm).glob("*.json")
    return sorted(found, key=lambda path: int(json.loads(path.read_bytes())["seed"]))


def call(
    capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, pytest.CaptureResult[str]]:
    """Calls `pairbench submit`; returns its exit status and what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["submit", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr()


def alone(path: Path, results: Path | None = None) -> submit.Submitted:
    """Returns what is said of one file."""
    (one,) = submit.look([path], results or path.parent / "nowhere")
    return one


def rewritten(path: Path, **changes: Any) -> Path:
    """Writes a record anew with other fields, under the name that its identity then asks for."""
    raw = read_record(path).model_dump()
    raw |= changes
    raw["identity"] = "0" * 64
    spec = RunRecord.model_construct(**raw).spec
    record = RunRecord(**{**raw, "identity": spec.identity})
    target = path.with_name(f"{record.identity[:16]}.json")
    target.write_bytes(as_json(record))
    series = path.with_suffix(".parquet")
    if target != path and series.exists():
        shutil.copy(series, target.with_suffix(".parquet"))
    return target


def test_a_sound_submission_is_shown_with_its_board_and_text(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = files(mine)
    results = tmp_path / "results"
    floor = files(mine, "reference")
    assert call(capsys, *floor, "--no-reproduce", "--results", results, "--into", results)[0] == 0
    status, said = call(capsys, *paths, "--results", results)
    assert (status, said.err) == (0, "")
    for seed, path in enumerate(paths):
        assert f"ok      {path}: grpo on preference-bandit, seed {seed}" in said.out
        assert f"    results/preference-bandit/grpo/{path.name}\n" in said.out
        assert f"    results/preference-bandit/grpo/{path.stem}.parquet\n" in said.out
    assert said.out.count("run again: equal; bit for bit equal: 3 iterations") == 1
    board = said.out.split("For the pull request")[0]
    assert "reference" in board  # the rows that are there are on it
    assert "Title: grpo on preference-bandit\n" in said.out
    assert "- **grpo** on preference-bandit (version 1), 3,000 steps, seeds 0, 1, 2" in said.out
    assert "arXiv 2402.03300" in said.out
    assert "(seed 0): equal; bit for bit equal: 3 iterations" in said.out
    assert "can be installed from" not in said.out  # it is built in
    # nothing is copied unless asked for, and the marks of a results folder are not touched
    assert sorted(p.name for p in results.rglob("*.json")) == sorted(p.name for p in floor)
    assert not list(mine.glob("*.jsonl"))


def test_into_copies_once_and_overwrites_nothing(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    flags = ("--no-reproduce", "--results", results, "--into", results)
    status, said = call(capsys, *files(mine), *flags)
    assert status == 0 and said.out.count("copied: ") == 6
    copied = load_records(results)
    assert copied.problems == []
    assert copied.records == [read_record(path) for path in files(mine)]
    for path in files(mine):
        place = results / path.relative_to(mine)
        assert place.read_bytes() == path.read_bytes()
        assert place.with_suffix(".parquet").exists()
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.*")}
    status, said = call(capsys, *files(mine), *flags)
    assert status == 0 and "copied: " not in said.out
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.*")} == before

    other = tmp_path / "other"  # a folder with another series in the place of one
    place = other / files(mine)[1].relative_to(mine).with_suffix(".parquet")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"something else")
    status, said = call(capsys, *files(mine), "--no-reproduce", "--results", other, "--into", other)
    assert status == 2
    assert "is there with other content: nothing was copied" in said.err
    assert [path.name for path in other.rglob("*.*")] == [place.name]


def test_a_problem_stops_everything(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = files(mine)
    paths[1].with_suffix(".parquet").write_bytes(b"cut")
    results = tmp_path / "results"
    status, said = call(capsys, *paths, "--results", results, "--into", results)
    assert status == 1
    assert f"PROBLEM {paths[1]}: grpo on preference-bandit, seed 1" in said.out
    assert "is not the file whose hash it holds" in said.out
    assert "For the pull request" not in said.out and "run again" not in said.out
    assert said.err == "1 of 3 records cannot be submitted.\n"
    assert not results.exists()


def test_check_is_for_machines(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = call(capsys, "--check", "--quick", 1, *files(mine)[:1], "--results", mine)
    assert status == 0
    assert "run again: equal; bit for bit equal: 1 iteration" in said.out
    assert "For the pull request" not in said.out and "rank" not in said.out
    status, said = call(capsys, "--check", "--no-reproduce", "--format", "json", *files(mine))
    (first, *_) = json.loads(said.out)
    assert first["problems"] == [] and first["reproduced"] is None
    assert first["place"] == f"preference-bandit/grpo/{files(mine)[0].name}"
    files(mine)[0].write_text("{")
    status, said = call(
        capsys, "--check", "--no-reproduce", "--format", "json", *mine.rglob("*.json")
    )
    assert status == 1
    assert sum(bool(one["problems"]) for one in json.loads(said.out)) == 1


def provenance(path: Path, **changes: Any) -> dict[str, Any]:
    """Returns a record's provenance with other entries, or without those that are None."""
    found = {**read_record(path).provenance, **changes}
    return {name: value for name, value in found.items() if value is not None}


def spoil(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def remove_series(path: Path) -> Path:
    path.with_suffix(".parquet").unlink()
    return path


def stray_texts(path: Path) -> Path:
    path.with_suffix(".texts.parquet").write_bytes(b"?")
    return path


def shorter_series(path: Path) -> Path:
    series = {n: c[:-1] for n, c in read_series(path.with_suffix(".parquet")).items()}
    return rewritten(path, series_sha256=write_series(path.with_suffix(".parquet"), series))


def other_curve(path: Path) -> Path:
    record = read_record(path)
    curve = [*record.curve[:-1], record.curve[-1].model_copy(update={"reward": 9.0})]
    return rewritten(path, curve=[point.model_dump() for point in curve])


def less_cost(path: Path) -> Path:
    return rewritten(path, cost=read_record(path).cost.model_copy(update={"steps": 10}))


def elsewhere(text: str) -> Callable[[Path], Path]:
    """Returns what puts `text` into a record's provenance."""
    return lambda path: rewritten(path, provenance=provenance(path, task={"data": text}))


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda path: path.with_name("0" * 16 + ".json"), "there is no such file"),
    "cut short": (lambda path: spoil(path, "}", ""), "perhaps cut short"),
    "newer": (
        lambda path: spoil(path, '"schema_version": 3', '"schema_version": 99'),
        "schema version 99 is newer",
    ),
    "foreign key": (lambda path: spoil(path, '"row":', '"rows": 1, "row":'), "rows: Extra inputs"),
    "other seed": (lambda path: spoil(path, '"seed": 0', '"seed": 7'), "identity is not the hash"),
    "other name": (
        lambda path: path.rename(path.with_name("1" * 16 + ".json")),
        "its name is not that of its identity",
    ),
    "failed": (
        lambda path: rewritten(path, status="failed", reason="the loss is not finite"),
        "the run failed (the loss is not finite): only finished",
    ),
    "no evaluation": (lambda path: rewritten(path, evaluation=None), "lacks its evaluation"),
    "no series": (remove_series, "do not lie beside it"),
    "unknown texts": (stray_texts, "lies beside it, but it knows of no texts"),
    "short series": (shorter_series, "iterations, the record"),
    "other curve": (other_curve, "the last point of its curve is not its final reward"),
    "not spent": (less_cost, "its cost reaches no limit of its budget"),
    "no source": (
        lambda path: rewritten(path, provenance=provenance(path, python=None, cpu=None)),
        "its provenance lacks python, cpu",
    ),
    "a path": (elsewhere("/home/somebody/data"), "names a place on a machine: '/home/somebody"),
    "a short path": (elsewhere("read from /data"), "provenance.task.data names a place"),
    "a home": (elsewhere("~/data"), "names a place on a machine"),
    "a drive": (elsewhere("C:\\data"), "names a place on a machine"),
    "a model's path": (
        lambda path: rewritten(path, task="preference-bandit@/models/mine"),
        "task names a place on a machine",
    ),
    "an address": (elsewhere("by someone@example.org"), "holds an address"),
    "a person": (elsewhere("made by somebody-here"), "names this machine or its user"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_record_is_said(
    what: str, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "_people", lambda: {"somebody-here", "root", "ab"})
    wrong, message = WRONG[what]
    one = alone(wrong(files(mine)[0]))
    assert any(message in problem for problem in one.problems), one.problems


@pytest.mark.parametrize(
    "text",
    [
        "Linux x86_64", "variety / SFT", "https://example.org/a/b", "HuggingFaceTB/SmolLM2-135M",
        "Intel(R) Xeon(R) CPU @ 2.20GHz", "2.13.0+cpu", "a: b", "1/2", "2026-01-01T00:00:00+00:00",
        "hh-rlhf@smollm2-1.7b", "roots", "crab",
    ],
)  # fmt: skip
def test_what_names_nobody_is_let_through(
    text: str, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "_people", lambda: {"somebody-here", "root", "ab"})
    assert alone(elsewhere(text)(files(mine)[0])).problems == []


def test_the_user_of_this_machine_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit.getpass, "getuser", lambda: "mathilda")
    assert "mathilda" in submit._people()

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(submit.getpass, "getuser", nobody)
    assert "mathilda" not in submit._people()


def test_committed_records_would_pass_but_for_what_older_ones_lack() -> None:
    results = ROOT / "results"
    store = Store(results)
    records = load_records(results).records
    found = submit.look([store.path(record) for record in records], results)
    problems = {problem for one in found for problem in one.problems}
    assert problems <= {"it does not say what code it has read: run it with this PairBench"}
    assert not any(one.problems for one in found if one.record and one.record.read)


def test_the_same_run_twice_is_one_too_many(mine: Path, tmp_path: Path) -> None:
    path = files(mine)[0]
    again = Path(shutil.copytree(path.parent, tmp_path / "again")) / path.name
    first, second = submit.look([path, again], tmp_path / "results")
    assert first.problems == []
    assert second.problems == [f"it is the same run as {path}: leave one out"]


def test_a_finished_record_there_is_never_replaced(made: Path, mine: Path) -> None:
    path = rewritten(files(mine)[0], provenance=provenance(files(mine)[0], started="2030-01-01"))
    (problem,) = alone(path, made).problems
    assert "holds this run already, with other numbers, and is never overwritten" in problem
    assert alone(files(mine)[1], made).problems == []


def test_in_a_results_folder_every_record_has_its_place(mine: Path) -> None:
    path = files(mine)[0]
    moved = mine / "preference-bandit" / "somewhere" / path.name
    moved.parent.mkdir()
    for end in (".json", ".parquet"):
        shutil.copy(path.with_suffix(end), moved.with_suffix(end))
    place = f"its place in {mine} is preference-bandit/grpo/{path.name}"
    assert alone(moved, mine).problems == [place]
    assert alone(path, mine).problems == []


def about(paths: list[Path], there: Path | None) -> list[submit.Submitted]:
    found = submit.look(paths, there or Path("nowhere"))
    submit.compared(found, load_records(there).records if there else [])
    return found


def test_rows_are_looked_at_beside_those_there(made: Path, mine: Path, tmp_path: Path) -> None:
    zero, first, second = files(mine)
    settings = {**read_record(zero).algorithm_config, "clip_low": 0.3}
    other = rewritten(zero, algorithm_config=settings)
    (one,) = about([other], made)
    assert "has a row grpo with other settings: give it another name" in one.problems[0]
    (one,) = about([rewritten(other, row="grpo-wide")], made)
    assert one.problems == []
    assert any("its row has 1 seed: " in remark for remark in one.remarks)

    two = about([zero, rewritten(other, row="grpo")], None)
    assert all("two rows grpo with different settings" in one.problems[0] for one in two)

    (one,) = about([rewritten(first, row="my-grpo", seed=9)], made)
    assert "its settings are those of the row grpo: they are one row" in one.remarks
    assert not any("seed" in remark for remark in one.remarks)  # with those there it has four

    (one,) = about([rewritten(second, task_version="0")], made)
    assert any("it begins a board of its own" in remark for remark in one.remarks)


@pytest.mark.parametrize(
    ("changed", "remark"),
    [(True, "with changes that no commit holds"), (None, "outside a git checkout"), (False, None)],
)
def test_the_state_of_the_code_is_told(
    changed: bool | None, remark: str | None, mine: Path
) -> None:
    path = files(mine)[0]
    one = alone(rewritten(path, provenance={**provenance(path), "git_changed": changed}))
    assert one.problems == []
    assert [remark in text for text in one.remarks] == [True] if remark else not one.remarks


def test_a_forged_beginning_is_found(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = files(mine)[0]
    file = path.with_suffix(".parquet")
    series = {name: column.copy() for name, column in read_series(file).items()}
    series["loss"][1] += np.float32(0.5)
    forged = rewritten(path, series_sha256=write_series(file, series))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == read_record(forged).series_sha256
    status, said = call(capsys, "--check", forged, "--results", mine)
    assert status == 1
    assert "run again, it gives other numbers: the first difference is in iteration 1" in said.out


def test_a_floor_row_is_evaluated_again_and_what_cannot_be_is_said(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floor = files(mine, "reference")[0]
    (skipped,) = files(mine, "sb3-ppo")
    status, said = call(capsys, "--check", floor, skipped, "--results", mine)
    assert status == 0
    assert "run again: equal; bit for bit equal: the whole run" in said.out
    assert "to know: skipped, so there is nothing to check: sb3-ppo runs on control" in said.out
    unknown = rewritten(files(mine)[0], algorithm="gpro")
    status, said = call(capsys, "--check", unknown, "--results", mine.parent / "nowhere")
    assert status == 1
    assert "it cannot be run again: there is no algorithm 'gpro'" in said.out


class NoLauncher:
    """Runs nothing."""

    def submit(self, job: Any) -> None:
        raise AssertionError("nothing should be run")

    def poll(self, timeout: float) -> list[Any]:
        return []

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("changed", "first", "accepted"),
    [
        (["cpu: a -> b", "packages.torch: 1 -> 2"], "close", True),
        (["cpu: a -> b"], "different", False),
        (["cpu: a -> b", "the source of grpo changed: a to b"], "close", False),
        (["packages.pairbench: 1 -> 2"], "close", False),
        ([], "close", False),
    ],
)
def test_another_machine_may_differ_after_its_first_iteration(
    changed: list[str],
    first: Any,
    accepted: bool,
    mine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def rebuild(record: RunRecord, *arguments: Any) -> Reproduction:
        count = arguments[-1]
        asked.append(count)
        return Reproduction(
            identity=record.identity, name="x", verdict=first if count == 1 else "different",
            detail="what was seen", iterations=count, changed=changed, date="", cpu="",
        )  # fmt: skip

    monkeypatch.setattr("pairbench.experiments.submission.rebuild", rebuild)
    found = submit.look(files(mine), tmp_path / "results")
    submit.reproduce(found, 3, NoLauncher(), tmp_path)
    assert (found[0].problems == []) == accepted
    assert any("run again on another machine" in r for r in found[0].remarks) == accepted
    assert asked[0] == 3 and len(asked) <= 2
    assert [one.reproduced is None for one in found] == [False, True, True]  # one seed of the row


def test_a_method_from_elsewhere_must_say_from_where(mine: Path) -> None:
    found = submit.look([rewritten(files(mine)[0], algorithm="my-own", row="my-own")], mine / "no")
    text = submit.pull_request(found, [])
    assert "Title: my-own on preference-bandit" in text
    assert "  - its package can be installed from: (say where)" in text
    assert "  - no part of it was run again" in text


def test_a_librarys_own_trainer_is_left_alone(tmp_path: Path) -> None:
    results = ROOT / "results"
    (row,) = [r for r in load_records(results).records if (r.algorithm, r.seed) == ("sb3-ppo", 0)]
    found = submit.look([Store(results).path(row)], results)
    found[0].problems = []  # an older record, which lacks its source's hash
    submit.reproduce(found, 3, NoLauncher(), tmp_path)
    assert found[0].problems == [] and found[0].reproduced is None
    assert "its trainer is a library's own and is not run again here" in found[0].remarks


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_check_of_a_branch(mine: Path, tmp_path: Path) -> None:
    place = tmp_path / "checkout"
    place.mkdir()
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def git(*arguments: str) -> None:
        names = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *names, *arguments], cwd=place, check=True, capture_output=True)

    def checked() -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / ".ci" / "submitted"), "main", "--no-reproduce"]
        return subprocess.run(
            command, cwd=place, env=tools, capture_output=True, text=True, timeout=600
        )

    def add(path: Path) -> Path:
        target = place / "results" / path.relative_to(mine)
        target.parent.mkdir(parents=True, exist_ok=True)
        for end in (".json", ".parquet"):
            if path.with_suffix(end).exists():
                shutil.copy(path.with_suffix(end), target.with_suffix(end))
        return target

    git("init", "-q", "-b", "main")
    there = add(files(mine, "reference")[0])
    git("add", "-A")
    git("commit", "-qm", "before")
    git("switch", "-qc", "branch")
    ran = checked()
    assert (ran.returncode, ran.stdout) == (0, "no record was added\n")
    added = add(files(mine)[0])
    git("add", "-A")
    git("commit", "-qm", "a record")
    ran = checked()
    assert ran.returncode == 0, ran.stderr
    assert f"ok      results/preference-bandit/grpo/{added.name}" in ran.stdout
    added.with_suffix(".parquet").unlink()
    git("add", "-A")
    git("commit", "-qm", "without its series")
    ran = checked()
    assert ran.returncode == 1 and "do not lie beside it" in ran.stdout
    there.write_text(there.read_text().replace('"row": "reference"', '"row": "referee"'))
    git("add", "-A")
    git("commit", "-qm", "an edit")
    ran = checked()
    assert ran.returncode == 1 and "these were changed or removed" in ran.stderr
    assert there.name in ran.stderr
