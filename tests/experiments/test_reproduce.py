"""A result rebuilt from its record: equal bits, near ones, others; and what changed since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pairbench
from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.experiments.launch.base import Ended
from pairbench.experiments.launch.local import Local
from pairbench.experiments.reproduce import changes, compare, rebuild
from pairbench.leaderboard import build
from pairbench.results.columns import read_series
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.marks import MARKS, keep, marks
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of GRPO and the reference on the bandit."""
    folder = tmp_path_factory.mktemp("reproduce") / "results"
    pairbench.run(
        algorithms=["grpo", "reference"], tasks=["preference-bandit"], seeds="0-1",
        budget={"steps": 3000}, results=folder, workers=1,
    )  # fmt: skip
    return folder


def kept(results: Path, row: str = "grpo", seed: int = 0) -> tuple[RunRecord, Any]:
    (record,) = (r for r in load_records(results).records if (r.row, r.seed) == (row, seed))
    columns = Store(results).path(record).with_suffix(".parquet")
    return record, read_series(columns) if columns.exists() else None


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_run_comes_back_bit_for_bit_and_its_row_says_so(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, _ = kept(results)
    floor, _ = kept(results, "reference")
    names = [record.identity[:12], str(Store(results).path(floor))]
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert call("reproduce", names[0], "--results", str(results)) == 0
    after = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert after == before and marks(results) == []
    assert call("reproduce", *names, "--results", str(results), "--mark") == 0
    said = capsys.readouterr().out
    assert "grpo on preference-bandit, seed 0: equal; bit for bit equal: the whole run" in said
    assert "reference on preference-bandit, seed 0: equal" in said
    assert [mark.identity for mark in marks(results)] == [record.identity, floor.identity]
    (board,) = build(load_records(results).records, marks=marks(results))
    (row,) = (row for row in board.rows if row.row == "grpo")
    assert row.reproduced is not None
    assert (row.reproduced.runs, row.reproduced.verdict) == (1, "equal")
    (plain,) = build(load_records(results).records)
    assert all(row.reproduced is None for row in plain.rows)


def test_the_beginning_alone_is_quick_and_earns_no_mark(
    results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    record, series = kept(results, seed=1)
    assert series is not None
    launcher = Local(1)
    try:
        found = rebuild(record, series, launcher, tmp_path, 3)
    finally:
        launcher.close()
    assert (found.verdict, found.iterations) == ("equal", 3)
    assert found.detail == "bit for bit equal: 3 iterations, 2 points of the learning curve"
    keep(found, tmp_path)
    (board,) = build(load_records(results).records, marks=marks(tmp_path))
    assert all(row.reproduced is None for row in board.rows)


def test_a_changed_number_is_found_where_it_is(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, _ = kept(results)
    assert record.evaluation is not None
    scores = {way: list(row) for way, row in record.evaluation.scores.items()}
    next(iter(scores.values()))[0] += 5.0
    forged = record.model_copy(
        update={"evaluation": record.evaluation.model_copy(update={"scores": scores})}
    )
    path = tmp_path / Store(results).path(record).name
    path.write_bytes(as_json(forged))
    assert call("reproduce", str(path), "--no-mark", "--format", "json") == 1
    (said,) = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "different" and "the final scores (" in said["detail"]


def test_a_changed_point_of_the_curve_is_found_by_its_beginning(
    results: Path, tmp_path: Path
) -> None:
    """The curve's first point lies within the first iterations, its last does not."""
    record, series = kept(results)
    early, late = (
        record.model_copy(
            update={
                "curve": [
                    point.model_copy(update={"means": {**point.means, "mean": 9.0}})
                    if number == changed
                    else point
                    for number, point in enumerate(record.curve)
                ]
            }
        )
        for changed in (0, len(record.curve) - 1)
    )
    within = record.cost.iterations // 2
    launcher = Local(1)
    try:
        assert rebuild(early, series, launcher, tmp_path, within).verdict == "different"
        sound = rebuild(late, series, launcher, tmp_path, within)
        assert sound.verdict == "equal" and "points of the learning curve" in sound.detail
        whole = rebuild(late, series, launcher, tmp_path, record.cost.iterations)
    finally:
        launcher.close()
    assert (whole.verdict, whole.iterations) == ("different", None)  # it ran to its end
    assert whole.detail == "the first difference is in the learning curve (mean)"


@pytest.mark.parametrize(
    ("part", "changes", "where"),
    [
        ("stability", {"kl_max": 9.0}, "the stability (kl_max)"),
        ("cost", {"scores": 1}, "the cost (scores)"),
        ("evaluation", {"measures": {"made_up": 1.0}}, "the final made_up"),
    ],
)
def test_every_measured_number_is_compared(
    results: Path, part: str, changes: dict[str, Any], where: str
) -> None:
    record, series = kept(results)
    told = getattr(record, part).model_copy(update=changes)
    forged = record.model_copy(update={part: told})
    verdict, detail = compare(forged, series, ended(record, series))
    assert (verdict, detail) == ("different", f"the first difference is in {where}")
    shorter = record.model_copy(update={"curve": record.curve[:-1]})
    assert compare(shorter, series, ended(record, series))[0] == "different"


def ended(record: RunRecord, series: Any) -> Ended:
    return Ended(record, series)


def test_the_first_step_and_series_that_differ_are_named(results: Path) -> None:
    record, series = kept(results)
    assert compare(record, series, ended(record, series)) == (
        "equal", "bit for bit equal: the whole run",
    )  # fmt: skip
    near = {name: column.copy() for name, column in series.items()}
    near["loss"][4] = np.nextafter(near["loss"][4], np.float32(9))
    verdict, detail = compare(record, series, ended(record, near))
    assert verdict == "close" and "iteration 4, series loss" in detail
    far = {name: column.copy() for name, column in near.items()}
    far["score"][2] += 100.0
    verdict, detail = compare(record, series, ended(record, far))
    assert verdict == "different" and detail.endswith("iteration 2, series score")
    assert compare(record, series, ended(record, far), 2)[0] == "equal"
    short = {name: column[:-1] for name, column in series.items()}
    assert "length" in compare(record, series, ended(record, short))[1]
    other = record.model_copy(update={"weights_sha256": "0" * 64})
    assert "final weights" in compare(record, series, ended(other, series))[1]


def test_what_changed_is_named_and_what_cannot_matter_is_not() -> None:
    then = {
        "started": "2026-01-01", "git_commit": "a", "python": "3.11.9",
        "packages": {"torch": "2.12.0", "numpy": "2.4.0"},
        "task": {"data_sha256": "a" * 64, "xml_sha256": "a" * 64, "model": {"seconds": 3.0}},
    }  # fmt: skip
    now = {
        "started": "2026-02-02", "git_commit": "b", "python": "3.11.9",
        "packages": {"torch": "2.13.0", "numpy": "2.4.0"},
        "task": {"data_sha256": "b" * 64, "xml_sha256": "b" * 64, "model": {"seconds": 4.0}},
    }  # fmt: skip
    assert changes(then, now) == [
        "packages.torch: 2.12.0 -> 2.13.0",
        f"task.xml_sha256: {'a' * 12}... -> {'b' * 12}...",
    ]
    assert changes(then, then) == []


def test_what_cannot_be_rebuilt_says_why(results: Path, tmp_path: Path) -> None:
    record, _ = kept(results, "reference")
    launcher = Local(1)
    try:
        with pytest.raises(PairBenchError, match="leave --quick out"):
            rebuild(record, None, launcher, tmp_path, 2)
        skipped = record.model_copy(update={"status": "skipped"})
        with pytest.raises(PairBenchError, match="only finished runs can be rebuilt"):
            rebuild(skipped, None, launcher, tmp_path)
        other = record.model_copy(update={"task_version": "0"})
        other = other.model_copy(update={"identity": other.spec.identity})
        with pytest.raises(PairBenchError, match=r"is at version .* here, the run asks for 0"):
            rebuild(other, None, launcher, tmp_path)
    finally:
        launcher.close()


def test_a_damaged_line_of_marks_is_left_out(tmp_path: Path) -> None:
    assert marks(tmp_path) == []
    (tmp_path / MARKS).write_text('{"identity": "x"}\nno json\n')
    assert marks(tmp_path) == []
