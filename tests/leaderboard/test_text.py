"""Boards as text: the JSON contract, names that try to break out, and equal bytes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pairbench.errors import PairBenchError
from pairbench.leaderboard import FORMATS, build, render, write_site
from pairbench.text import number
from tests.support.records import board_records, record

NASTY = "<script>alert(1)</script>|`x`*_\x1b[31m\n=1"


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_names_every_row_and_repeats(format: str) -> None:
    board = build(board_records(3))[0]
    text = render(board, format)
    assert text.endswith("\n") and text == render(build(board_records(3))[0], format)
    for row in board.rows:
        name = {"markdown": row.row.replace("_", "\\_")}.get(format, row.row)
        assert name in text


def test_unknown_format() -> None:
    with pytest.raises(PairBenchError, match="did you mean markdown"):
        render(build(board_records(1))[0], "markdwn")


def test_json_contract() -> None:
    data = json.loads(
        render(build([*board_records(3), record(steps=5)], "halfcheetah-v4")[0], "json")
    )
    assert {"task", "rows", "protocol", "task_version", "step_unit", "other_boards"} <= set(data)
    assert data["other_boards"][0]["protocol"]["budget"]["steps"] == 5
    first = data["rows"][0]
    assert {"row", "algorithm", "status", "rank", "n_seeds", "configuration"} <= set(first)
    assert set(first["reward"]) == {"iqm", "low", "high"}
    assert set(first["win_rate"]) == set(first["head_to_head"]) == {"estimate", "low", "high"}
    skipped = next(row for row in data["rows"] if row["status"] == "skipped")
    assert skipped["rank"] is None and skipped["reason"] and skipped["reward"] is None


def test_csv_has_every_number() -> None:
    board = build(board_records(3))[0]
    lines = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert [line["row"] for line in lines] == [row.row for row in board.rows]
    best = board.rows[0]
    assert best.reward is not None
    assert float(lines[0]["reward"]) == best.reward.iqm
    assert float(lines[0]["reward_low"]) == best.reward.low
    assert lines[0]["configuration"] == best.configuration
    assert lines[-1]["reward"] == "" and lines[-1]["reason"]


def test_names_stay_text() -> None:
    board = build([record(NASTY, seed, algorithm="a") for seed in range(2)])[0]
    for format in ("table", "markdown", "latex", "csv", "html"):
        text = render(board, format)
        assert "\x1b" not in text
        if format != "table":
            assert format in ("latex", "csv") or "<script>alert" not in text
    assert sum(NASTY[:8] in line for line in render(board, "table").splitlines()) == 1
    assert json.loads(render(board, "json"))["rows"][0]["row"] == NASTY
    table = [line for line in render(board, "markdown").splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_numbers_read_well() -> None:
    shown = [
        number(x) for x in (0.0, 1000.0, 2521.4, -99.96, 3.14159, 0.01234, 42.0, -1.0, -2.4e-17)
    ]
    assert shown == ["0", "1000", "2521", "-100", "3.142", "0.0123", "42", "-1", "0"]


def test_site_is_complete_and_byte_for_byte(tmp_path: Path) -> None:
    records = board_records(3) + board_records(3, steps=1_000_000)
    written = write_site(records, tmp_path / "one").files
    again = write_site(list(reversed(records)), tmp_path / "two").files
    beside = [path.name for path in written if path.parent == tmp_path / "one"]
    assert beside == [
        "README.md",
        "algorithms.html",
        *(f"halfcheetah-v4--1M-steps.{s}" for s in ("html", "json", "md")),
        *(f"halfcheetah-v4--200k-steps.{s}" for s in ("html", "json", "md")),
        "index.html",
        "run.html",
    ]
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    assert sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file()) == written


def test_boards_of_one_budget_get_different_files(tmp_path: Path) -> None:
    records = [record("a", 0), record("a", 0, task_config={"oracle": "other"})]
    records.append(record("a", 0, task="a/b <c>"))
    written = write_site(records, tmp_path).files
    names = [path.name for path in written if path.parent == tmp_path]
    assert len(set(names)) == len(names) == 13
    assert sum(name.startswith("halfcheetah-v4--200k-steps--") for name in names) == 6
    assert "a-b--c---200k-steps.md" in [name.replace("---200k", "---200k") for name in names]


def test_boards_of_one_budget_both_say_it() -> None:
    for board in build([record("a", 0), record("a", 0, task_config={"oracle": "other"})]):
        line = render(board).splitlines()[0]
        assert "version 1, 200k steps (" in line and line.count(board.board[:8]) == 1


def test_site_needs_a_folder_it_can_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PairBenchError, match="cannot write the leaderboards"):
        write_site([record()], tmp_path / "file")
    assert write_site([], tmp_path / "none").files == [] and not (tmp_path / "none").exists()
