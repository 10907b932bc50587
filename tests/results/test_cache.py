"""Compaction changes no board, hides no change, and is never trusted further than the records."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pairbench
from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.results import cache as module
from pairbench.results import record_file
from pairbench.results.cache import Row, compact, write_part
from pairbench.results.columns import write_columns
from pairbench.results.folder import Store
from pairbench.results.layout import COMPACT
from pairbench.results.load import load_by_task, load_records
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json
from tests.support.records import board_records, record

TASKS = ("halfcheetah-v4", "preference-bandit")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Records of two tasks, one of them in the wrong task's folder, and a file that is none."""
    store = Store(tmp_path / "results")
    for task in TASKS:
        for one in board_records(2, task=task):
            store.write(one)
    astray = record("ppo", 7, task=TASKS[1])
    (store.root / TASKS[0] / f"{astray.identity}.json").write_bytes(as_json(astray))
    (store.root / TASKS[0] / "notes.json").write_text("{}")
    return store.root


def boards(results: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[str, str]:
    """What `pairbench leaderboard` says on both channels."""
    with pytest.raises(SystemExit):
        main(["leaderboard", "--results", str(results), *options])
    return capsys.readouterr()


def parts(results: Path) -> list[Path]:
    """The files that compaction has made."""
    return sorted((results / COMPACT).glob("*.parquet"))


def no_files_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no record's own file be read."""

    def refuse(path: Path) -> bytes:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(record_file, "record_bytes", refuse)


FORMS: list[list[str]] = [
    [], ["--format", "json"], ["--format", "markdown"], ["--overall"],
    ["--task", TASKS[0], "--format", "html"], ["--task", TASKS[1], "--format", "csv"],
]  # fmt: skip


@pytest.mark.parametrize("options", FORMS, ids=" ".join)
def test_boards_are_the_same_bytes(
    options: list[str], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = boards(results, capsys, *options)
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results.rglob("*.json")}
    told = compact(results)
    assert told.files == len(parts(results)) == 2
    assert told.records == len(files) - 1
    assert "notes.json" in told.problems[0]
    assert boards(results, capsys, *options) == before
    assert before[0]
    for path, (data, mtime) in files.items():
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (data, mtime)


def test_what_is_kept_is_what_is_read(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (results / TASKS[0] / "notes.json").unlink()
    whole = load_records(results)
    compact(results)
    no_files_read(monkeypatch)
    assert load_records(results) == whole
    for task in TASKS:
        own = [one for one in whole.records if one.task == task]
        assert load_records(results, task).records == own
        assert [part.records for part in load_by_task(results, task)] == [own]
    assert [one.task for part in load_by_task(results) for one in part.records] == [
        one.task for one in whole.records
    ]
    assert len(list(load_by_task(results))) == len(TASKS)
    with pytest.raises(PairBenchError, match="did you mean preference-bandit"):
        pairbench.leaderboard(results, task="preference-bandits")


def test_a_second_call_writes_nothing(results: Path) -> None:
    (results / TASKS[0] / "notes.json").unlink()
    first = compact(results)
    before = {path: path.stat().st_mtime_ns for path in parts(results)}
    assert compact(results) == first
    assert {path: path.stat().st_mtime_ns for path in parts(results)} == before


def test_many_parts(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_records(results)
    monkeypatch.setattr(module, "ROWS", 4)
    assert compact(results).files > 10
    assert load_records(results) == whole
    monkeypatch.setattr(module, "ROWS", 10_000)
    for task in TASKS:
        os.utime(next((results / task / "ppo").glob("*.json")))
    assert compact(results).files == len(parts(results)) == 2  # those that are no more needed go
    shutil.rmtree(results / TASKS[1])
    assert compact(results).files == len(parts(results)) == 1


def change(one: RunRecord) -> RunRecord:
    """The same run with another result."""
    assert one.evaluation is not None
    scores = {way: [x + 50 for x in own] for way, own in one.evaluation.scores.items()}
    evaluation = one.evaluation.model_copy(update={"scores": scores})
    return one.model_copy(update={"evaluation": evaluation})


def test_what_happens_after_compaction_is_seen(results: Path) -> None:
    compact(results)
    store = Store(results)
    old = load_records(results).records
    changed = change(next(r for r in old if r.status == "finished" and r.row == "ppo"))
    store.path(changed).write_bytes(as_json(changed))
    assert changed in load_records(results).records
    deleted = next(r for r in old if r.row == "grpo")
    store.path(deleted).unlink()
    assert deleted not in load_records(results).records
    new = store.write(record("grpo", 99, task="new-task"))
    assert new in load_records(results).records
    assert [part.records[0].task for part in load_by_task(results)] == [*TASKS[:1], "new-task",
                                                                        TASKS[1]]  # fmt: skip
    whole = load_records(results)
    shutil.rmtree(results / COMPACT)
    assert load_records(results) == whole
    compact(results)
    assert load_records(results) == whole


def bomb(part: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT '' AS path, 0 AS size FROM range(100_000_000)) TO '{part}' "
            "(FORMAT parquet, COMPRESSION zstd)"
        )


def other_columns(part: Path) -> None:
    part.unlink()
    write_columns(part, {"loss": np.zeros(3)})


def other_kinds(part: Path) -> None:
    names = ("path", "size", "mtime_ns", "task", "record", "sha256")
    part.unlink()
    write_columns(part, {name: np.zeros(3) for name in names})


def a_number_for_text(part: Path) -> None:
    other = part.with_name("other")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE (1 AS record) FROM '{part}') TO '{other}' (FORMAT parquet)"
        )
    other.replace(part)


def a_digit_changed(part: Path) -> None:
    other = part.with_name("other")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE (replace(record, '1', '2') AS record) FROM '{part}') "
            f"TO '{other}' (FORMAT parquet)"
        )
    other.replace(part)


def link(part: Path) -> None:
    part.rename(part.with_name("elsewhere"))
    part.symlink_to(part.with_name("elsewhere"))


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "cut short": lambda part: part.write_bytes(part.read_bytes()[:-20]),
    "empty": lambda part: part.write_bytes(b""),
    "noise": lambda part: part.write_bytes(b"PAR1" + b"\xff" * 1000 + b"PAR1"),
    "a bomb": bomb,
    "a digit changed": a_digit_changed,
    "other columns": other_columns,
    "other kinds": other_kinds,
    "a number for text": a_number_for_text,
    "a link": link,
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_file_that_is_none_of_ours_is_ignored_in_one_sentence(how: str, results: Path) -> None:
    whole = load_records(results)
    compact(results)
    HOSTILE[how](parts(results)[0])
    found = load_records(results)
    assert found.records == whole.records
    (problem,) = set(found.problems) - set(whole.problems)
    assert "is not used, records are read from their own files" in problem
    assert "\n" not in problem
    assert len(problem) < 500 + len(str(results))
    assert compact(results).files == 2
    assert load_records(results) == whole


@pytest.mark.parametrize(
    "text", ["", "{}", "[" * 100_000, None, as_json(record("ppo", 3)).decode()]
)
def test_text_that_is_not_the_record_is_not_believed(text: str | None, results: Path) -> None:
    whole = load_records(results)
    victim = next(one for one in whole.records if one.status == "finished")
    path = Store(results).path(victim)
    about = path.stat()
    (results / COMPACT).mkdir()
    row = Row(about.st_size, about.st_mtime_ns, victim.task, text)
    astray = Row(0, 0, "another task", as_json(record("ppo", 3)).decode())
    name = path.relative_to(results).as_posix()
    write_part(results, results / TASKS[0], 0, [(name, row), ("../../outside.json", astray)])
    assert load_records(results) == whole


def test_two_calls_at_once(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each does it all or says that another is at it."""
    before = boards(results, capsys)
    command = [sys.executable, "-m", "pairbench", "compact", "--results", str(results)]
    calls = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [(call.communicate()[1], call.returncode) for call in calls]
    assert 0 in [status for _, status in ends]
    assert all(status == 0 or "another `pairbench compact` is at" in said for said, status in ends)
    assert boards(results, capsys) == before


def test_no_folder_and_no_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PairBenchError, match="there is no results folder"):
        compact(tmp_path / "nothing")
    assert compact(tmp_path) == (0, 0, [])
    assert "there are no records in" in boards(tmp_path, capsys)[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written(results: Path) -> None:
    results.chmod(0o500)
    try:
        with pytest.raises(PairBenchError, match="cannot be written"):
            compact(results)
    finally:
        results.chmod(0o700)


@given(st.binary(max_size=100), st.integers(0, 10_000))
def test_kept_files_with_bytes_changed(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    one = Store(root).write(record("ppo", 0))
    compact(root)
    (part,) = parts(root)
    whole = part.read_bytes()
    place %= len(whole)
    part.write_bytes(whole[:place] + data + whole[place + len(data) :])
    assert load_records(root).records == [one]
