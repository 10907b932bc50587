"""One board over several tasks: normalised scores, and only rows that have them all.

A task's scores are put on a scale where 0 is the untrained policy (`reference`, or else another
floor row, as `random`) and 1 the best row there, both by their interquartile means:
(score - floor) / (best - floor). The two are taken as known: the intervals here are of the rows'
own seeds alone, and a row that joins a board as its best moves everyone's scores.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import BaseModel
from tabulate import tabulate

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import (
    BASELINE,
    Board,
    Rate,
    Reward,
    Row,
    build,
    distinct,
    finished_scores,
    rate,
    shared_ranks,
)
from pairbench.leaderboard.text import cell, markdown_text, percent
from pairbench.results.record import RunRecord
from pairbench.text import did_you_mean, number, printable

LEVELS = [round(0.1 * k, 1) for k in range(13)]
"""Normalised scores at which performance profiles are given."""

OVERALL_FORMATS = ("table", "markdown", "csv", "json", "latex", "html")


class Scale(BaseModel):
    """How one task's scores are normalised: `floor` becomes 0 and `best` becomes 1."""

    task: str
    title: str
    board: str
    floor_row: str
    floor: float
    best_row: str
    best: float


class OverallRow(BaseModel):
    """A row over all tasks; scores are normalised.

    Attributes:
        score: interquartile mean over all runs of all tasks, each task weighing the same, with its
            95% interval (seeds resampled within each task).
        median: median over tasks of the mean over seeds.
        optimality_gap: by how much runs fall short of 1 on average.
        tasks: interquartile mean by task.
        profile: share of runs above each of the board's `levels`, tasks weighing the same.
    """

    rank: int | None = None
    row: str
    n_seeds: dict[str, int]
    score: Reward
    median: float
    optimality_gap: float
    tasks: dict[str, float]
    profile: list[Rate]


class Overall(BaseModel):
    """Rows over tasks, best first. `left_out` names what each other row lacks."""

    scales: list[Scale]
    levels: list[float]
    rows: list[OverallRow]
    left_out: dict[str, str]


def overall(
    records: Iterable[RunRecord],
    tasks: Sequence[str] | None = None,
    boards: Sequence[Board] | None = None,
) -> Overall | None:
    """Returns the board over tasks, or None where there are not two tasks with two rows in common.

    Args:
        records: any records, in any order.
        tasks: the tasks; by default all that have a scale: a floor row and two trained ones. Of
            each it is the one board of the largest budget that has it.
        boards: `build(records)`, if it is at hand.

    Rows go by their names, whatever a suite sets for them on each task. One counts if it was
    trained and every seed of it has finished, on all of the tasks.

    Raises:
        PairBenchError: if fewer than two tasks are named, or one cannot be on the board.
    """
    kept = distinct(records)
    found = list(boards) if boards is not None else build(kept)
    largest: dict[str, Board] = {}
    scales: dict[str, Scale] = {}
    for board in sorted(found, key=_size):
        scale = _scale(board)
        if scale is not None or board.task not in scales:
            largest[board.task] = board
        if scale is not None:
            scales[board.task] = scale
    if tasks is None:
        chosen = sorted(scales)
    else:
        chosen = list(dict.fromkeys(tasks))
        for task in chosen:
            if task not in scales:
                raise PairBenchError(_refusal(task, largest))
        if len(chosen) < 2:
            raise PairBenchError("an overall board needs at least two tasks")
    if len(chosen) < 2:
        return None
    rows = {task: {row.row: row for row in _trained(largest[task])} for task in chosen}
    everyone = sorted({name for of_task in rows.values() for name in of_task})
    missing = {name: [task for task in chosen if name not in rows[task]] for name in everyone}
    common = [name for name in everyone if not missing[name]]
    if len(common) < 2:
        return None
    rewards = {record.identity: record for record in kept}
    built = []
    for name in common:
        scores = []
        for task in chosen:
            runs = finished_scores(rewards[run] for run in rows[task][name].runs.values())
            raw = np.array([np.mean(runs[seed]) for seed in sorted(runs)])
            scale = scales[task]
            scores.append((raw - scale.floor) / (scale.best - scale.floor))
        built.append(_row(name, chosen, scores))
    built.sort(key=lambda row: (-row.score.iqm, row.row))
    for row, rank in zip(built, shared_ranks([row.score for row in built]), strict=True):
        row.rank = rank
    return Overall(
        scales=[scales[task] for task in chosen],
        levels=LEVELS,
        rows=built,
        left_out={
            name: f"has no complete result on {', '.join(tasks)}"
            for name, tasks in missing.items()
            if tasks
        },
    )


def render_overall(board: Overall, format: str = "table") -> str:
    """Returns an overall board as text in one of `OVERALL_FORMATS`, ending in a newline.

    Raises:
        PairBenchError: if the format is unknown.
    """
    if format == "json":
        return json.dumps(board.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    if format == "csv":
        return _csv(board)
    if format == "html":
        from pairbench.leaderboard.site.pages import overall_page

        return overall_page(board)
    if format not in OVERALL_FORMATS:
        raise PairBenchError(
            f"no format {format!r} for an overall board{did_you_mean(format, OVERALL_FORMATS)}"
        )
    marked = format == "markdown"
    styles = {"markdown": "pipe", "latex": "latex_booktabs"}
    table = tabulate(
        [_escape(line, marked) for line in cells(board)],
        headers=_escape(headings(board), marked),
        tablefmt=styles.get(format, "simple"),
        disable_numparse=True,
        colalign=["left", "left", *["right"] * (4 + len(board.scales))],
    )
    notes = [*explained(board), *(f"{name}: {why}" for name, why in board.left_out.items())]
    if format == "latex":
        told = "\n".join(f"% {printable(note)}" for note in notes)
        return f"{told}\n% needs the package booktabs\n{table}\n"
    if not marked:
        return "\n".join(["Overall", "", table, "", *map(printable, notes)]) + "\n"
    lines = [f"- {_escape([note], True)[0]}" for note in notes]
    return "\n\n".join(["# Overall", table, "\n".join(lines)]) + "\n"


def headings(board: Overall) -> list[str]:
    """Returns the headings of the table of an overall board."""
    fixed = ["rank", "row", "score", "median", "optimality gap", "above 0.5"]
    return [*fixed, *(scale.task for scale in board.scales)]


def cells(board: Overall) -> list[list[str]]:
    """Returns one line of text per row, as headed by `headings`."""
    half = board.levels.index(0.5)
    return [
        [
            "-" if row.rank is None else str(row.rank),
            printable(row.row),
            cell(row.score),
            number(row.median),
            number(row.optimality_gap),
            percent(row.profile[half].estimate),
            *(number(row.tasks[scale.task]) for scale in board.scales),
        ]
        for row in board.rows
    ]


def explained(board: Overall) -> list[str]:
    """Returns what a reader must know of the numbers, a sentence each."""
    return [
        "Score: interquartile mean over all runs of all tasks [95% interval, seeds resampled "
        "within each task]; a row's rank is one more than the number of rows whose whole interval "
        "lies above its own.",
        "Median: over tasks, of means over seeds. Optimality gap: mean shortfall from 1, no "
        "interval. Above 0.5: share of runs. By task: interquartile mean over seeds.",
        *(
            f"{scale.title}: 0 is {scale.floor_row} ({number(scale.floor)}), 1 is {scale.best_row} "
            f"({number(scale.best)}); both are taken as known."
            for scale in board.scales
        ),
    ]


def _row(name: str, tasks: Sequence[str], scores: Sequence[statistics.Array]) -> OverallRow:
    (score,) = (rate(e) for e in statistics.stratified_iqm([own[None] for own in scores]))
    gaps = [statistics.optimality_gap(own) for own in scores]
    return OverallRow(
        row=name,
        n_seeds={task: len(own) for task, own in zip(tasks, scores, strict=True)},
        score=Reward(iqm=score.estimate, low=score.low, high=score.high),
        median=_short(np.median([own.mean() for own in scores])),
        optimality_gap=_short(np.mean(gaps)),
        tasks={task: _short(statistics.iqm(own)) for task, own in zip(tasks, scores, strict=True)},
        profile=[rate(share) for share in statistics.profile_interval(scores, LEVELS)],
    )


def _short(value: float | np.floating | statistics.Array) -> float:
    return rate(statistics.Estimate(float(value), None, None)).estimate


def _size(board: Board) -> tuple[int, int]:
    return (board.protocol.budget.steps or 0, len(_trained(board)))


def _trained(board: Board) -> list[Row]:
    return [row for row in board.rows if row.status == "finished" and not row.floor]


def _scale(board: Board) -> Scale | None:
    """The scale of a board with a floor and two trained rows, one of them above the floor."""
    floors = [row for row in board.rows if row.floor and row.reward is not None]
    floors.sort(key=lambda row: (row.row != BASELINE, row.algorithm != BASELINE, row.row))
    rows = _trained(board)
    if not floors or len(rows) < 2:
        return None
    floor, best = floors[0], rows[0]
    if floor.reward is None or best.reward is None or best.reward.iqm <= floor.reward.iqm:
        return None
    return Scale(
        task=board.task,
        title=board.title,
        board=board.board,
        floor_row=floor.row,
        floor=floor.reward.iqm,
        best_row=best.row,
        best=best.reward.iqm,
    )


def _refusal(task: str, largest: dict[str, Board]) -> str:
    if task not in largest:
        return f"no task {task!r} in these results{did_you_mean(task, largest)}"
    return (
        f"{largest[task].title} has no scale for an overall board: it needs an untrained row "
        f"(run {BASELINE}) and two trained rows without a failed seed, the best above it"
    )


def _csv(board: Overall) -> str:
    tasks = [scale.task for scale in board.scales]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fixed = ["rank", "row", "score", "score_low", "score_high", "median", "optimality_gap"]
    writer.writerow([*fixed, *tasks, *(f"above_{level:g}" for level in board.levels)])
    for row in board.rows:
        score = [row.score.iqm, row.score.low, row.score.high, row.median, row.optimality_gap]
        shares = [share.estimate for share in row.profile]
        name = printable(row.row)
        writer.writerow([row.rank, name, *score, *(row.tasks[task] for task in tasks), *shares])
    return text.getvalue()


def _escape(texts: Sequence[str], marked: bool) -> list[str]:
    return [markdown_text(text) if marked else text for text in texts]
