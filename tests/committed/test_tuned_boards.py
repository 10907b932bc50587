"""The table of docs/tuning.md is what the committed studies and records give.

`python -m tests.test_tuned_boards` prints it anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench.experiments.tuning import Trial, read_study
from pairbench.leaderboard import build, compare
from pairbench.leaderboard.text import cell
from pairbench.results.load import load_records
from pairbench.text import number

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "results" / "tuning").glob("*/study.json"))


def validation(trial: Trial) -> str:
    """Returns a trial's value, with its standard error where there is one."""
    assert trial.value is not None
    return number(trial.value) + ("" if trial.error is None else f" ± {number(trial.error)}")


def table(path: Path) -> list[str]:
    """Returns what a study found, and what it changed on the board, as Markdown lines."""
    study = read_study(path)
    records = load_records(ROOT / "results").records
    lines = [
        f"| {study.terms.task}: row | preset, tuning seeds | best, tuning seeds | its settings "
        "| preset, board | tuned, board | tuned - preset, paired [95%] |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, search in study.rows.items():
        assert search.best is not None
        (board,) = (
            board
            for board in build(records, study.terms.task)
            if any(row.row == f"{name}+tuned" for row in board.rows)
        )
        rows = {row.row: row for row in board.rows}
        gap = compare(records, f"{name}+tuned", name, study.terms.task).difference
        ends = [gap.estimate, gap.low, gap.high]
        shown = ["" if end is None else f"{'+' if end > 0 else ''}{number(end)}" for end in ends]
        settings = ", ".join(f"`{key}` {value}" for key, value in search.best.settings.items())
        lines.append(
            f"| {name} | {validation(search.trials[0])} | {validation(search.best)} "
            f"(no. {search.trials.index(search.best)}) | {settings} | {cell(rows[name].reward)} "
            f"| {cell(rows[f'{name}+tuned'].reward)} | {shown[0]} [{shown[1]}, {shown[2]}] |"
        )
    return lines


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_the_table_is_what_the_studies_give(path: Path) -> None:
    text = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8").splitlines()
    lines = table(path)
    start = text.index(lines[0])
    assert text[start : start + len(lines)] == lines, "run python -m tests.test_tuned_boards"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_every_row_had_as_many_trials_and_its_records_say_so(path: Path) -> None:
    study = read_study(path)
    (count,) = {len(search.trials) for search in study.rows.values()}
    records = load_records(ROOT / "results", study.terms.task).records
    runs = {run.identity: run for run in load_records(path.parent / "runs").records}
    for name, search in study.rows.items():
        spent = {
            (run.tuning.trials, run.tuning.study)
            for run in records
            if run.row == f"{name}+tuned" and run.tuning is not None
        }
        assert spent == {(count, study.sha256)}
        for trial in search.trials:
            assert {runs[i].seed for i in trial.runs.values()} == set(study.terms.seeds)
            for seed, reward in trial.rewards.items():
                found = runs[trial.runs[seed]].evaluation
                assert found is not None and found.reward == reward


if __name__ == "__main__":
    print("\n\n".join("\n".join(table(path)) for path in STUDIES))
