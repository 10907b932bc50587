"""The board over tasks: its scale, who is on it, and that budgets never mix."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest

from pairbench.errors import PairBenchError
from pairbench.leaderboard import build, overall, render, write_site
from pairbench.leaderboard.formats import OVERALL_FORMATS
from pairbench.leaderboard.overall import LEVELS
from pairbench.results.record import RunRecord
from tests.support.records import board_records, record


def runs(row: str, task: str, rewards: list[float], **options: object) -> list[RunRecord]:
    options.setdefault("algorithm", row)
    return [
        record(row, seed, task=task, scores=[reward] * 2, **options)  # type: ignore[arg-type]
        for seed, reward in enumerate(rewards)
    ]


def two_tasks() -> list[RunRecord]:
    """On "one" 0 is 10 and 1 is 30; on "two" 0 is -1 and 1 is 0."""
    return [
        *runs("reference", "one", [10.0, 10.0]),
        *runs("random", "one", [-99.0, -99.0]),
        *runs("a", "one", [25.0, 35.0]),
        *runs("b", "one", [15.0, 20.0, 25.0]),
        *runs("random", "two", [-1.0, -1.0]),
        *runs("a", "two", [-0.75, -0.25]),
        *runs("b", "two", [-0.1, 0.1]),
        *runs("c", "two", [-0.5, -0.5]),
    ]


def test_scores_by_hand() -> None:
    board = overall(two_tasks())
    assert board is not None
    first, second = board.scales
    assert (first.floor_row, first.floor, first.best_row, first.best) == ("reference", 10, "a", 30)
    assert (second.floor_row, second.floor, second.best_row, second.best) == ("random", -1, "b", 0)
    rows = {row.row: row for row in board.rows}
    # a: .75, 1.25 and .25, .75, of which the outer two are cut.
    assert rows["a"].score.iqm == 0.75
    assert rows["a"].tasks == {"one": 1.0, "two": 0.5}
    assert rows["a"].median == 0.75
    assert rows["a"].optimality_gap == pytest.approx((0.25 + 0.0 + 0.75 + 0.25) / 4)
    # b: .25, .5, .75 counted twice each, .9 and 1.1 three times each; three cut on either side.
    assert rows["b"].score.iqm == pytest.approx(np.mean([0.5, 0.75, 0.75, 0.9, 0.9, 0.9]))
    assert rows["b"].n_seeds == {"one": 3, "two": 2}
    profile = dict(zip(board.levels, rows["a"].profile, strict=True))
    assert profile[0.5].estimate == 0.75 and profile[1.0].estimate == 0.25
    assert board.left_out == {"c": "has no complete result on one"}
    assert [row.row for row in board.rows] == ["b", "a"] and {r.rank for r in board.rows} == {1}
    assert all(row.score.low < row.score.iqm < row.score.high for row in board.rows)  # type: ignore[operator]


def test_of_each_task_only_the_largest_budget() -> None:
    records = two_tasks()
    small = [*runs("a", "one", [1.0, 2.0], steps=5), *runs("b", "one", [3.0, 4.0], steps=5)]
    assert overall(records + small) == overall(records)
    # On a board of a larger budget that has only one of the rows there is nothing to normalise by.
    large = runs("a", "one", [99.0, 99.0], steps=9_000_000)
    assert overall(records + large) == overall(records)
    rest = [
        *runs("b", "one", [9.0, 8.0], steps=9_000_000),
        *runs("random", "one", [0.0] * 2, steps=9_000_000),
    ]
    board = overall(records + large + rest)
    assert board is not None and board.scales[0].title == "one, 9M steps"


def test_rows_with_failures_and_floors_are_not_on_it() -> None:
    records = [
        *two_tasks(),
        record("b", 9, task="two", algorithm="b", status="failed", reason="x"),
        *runs("c", "one", [12.0, 14.0]),
    ]
    board = overall(records)
    assert board is not None and {row.row for row in board.rows} == {"a", "c"}
    assert board.left_out == {"b": "has no complete result on two"}
    assert board.scales[1].best == -0.5  # neither does a partial row set the scale


def test_order_changes_nothing() -> None:
    records = two_tasks()
    shuffled = list(records)
    random.Random(0).shuffle(shuffled)
    assert overall(records) == overall(shuffled) == overall(records, boards=build(records))


def test_which_tasks() -> None:
    records = [*two_tasks(), *runs("a", "three", [1.0, 2.0])]
    assert overall(records) == overall(records, ["one", "two"])
    assert overall(runs("a", "one", [1.0, 2.0])) is None
    for tasks, says in (
        (["one", "three"], "three, 200k steps has no scale"),
        (["one", "tow"], "did you mean two"),
        (["one"], "at least two tasks"),
    ):
        with pytest.raises(PairBenchError, match=says):
            overall(records, tasks)


@pytest.mark.parametrize("format", OVERALL_FORMATS)
def test_formats(format: str) -> None:
    board = overall(two_tasks())
    assert board is not None
    text = render(board, format)
    assert text.endswith("\n") and text == render(board, format)
    assert "0.750" in text or "0.75" in text
    if format == "json":
        assert json.loads(text)["rows"][0]["score"]["iqm"] == board.rows[0].score.iqm
    elif format == "csv":
        lines = list(csv.DictReader(io.StringIO(text)))
        assert float(lines[0]["one"]) == board.rows[0].tasks["one"]
        assert f"above_{LEVELS[-1]:g}" in lines[0]
    else:
        assert "0 is reference (10)" in text and "c" in text
    with pytest.raises(PairBenchError, match="did you mean json"):
        render(board, "jsno")


def test_the_site_has_it_where_there_is_one(tmp_path: Path) -> None:
    written = write_site(two_tasks(), tmp_path / "two").files
    assert {"overall.md", "overall.json", "overall.html"} <= {p.name for p in written}
    assert 'href="overall.html"' in (tmp_path / "two" / "index.html").read_text()
    alone = write_site(board_records(2), tmp_path / "one").files
    assert not [p for p in alone if p.name.startswith("overall")]
    assert "overall" not in (tmp_path / "one" / "index.html").read_text()
