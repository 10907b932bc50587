"""One board over several tasks: normalised scores, and only rows that have them all.

A task's scores are put on a scale where 0 is the untrained policy (`reference`, or else another
floor row, as `random`) and 1 the best row there, both by their interquartile means:
(score - floor) / (best - floor). The two are taken as known: the intervals here are of the rows'
own seeds alone, and a row that joins a board as its best moves everyone's scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import BaseModel

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import BASELINE, Board, build, distinct
from pairbench.leaderboard.rank import shared_ranks
from pairbench.leaderboard.rows import Rate, Reward, Row, finished_scores, rate, rounded
from pairbench.results.record import RunRecord
from pairbench.text import did_you_mean

LEVELS = [round(0.1 * k, 1) for k in range(13)]
"""Normalised scores at which performance profiles are given."""


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


def _row(name: str, tasks: Sequence[str], scores: Sequence[statistics.Array]) -> OverallRow:
    (score,) = (rate(e) for e in statistics.stratified_iqm([own[None] for own in scores]))
    gaps = [statistics.optimality_gap(own) for own in scores]
    return OverallRow(
        row=name,
        n_seeds={task: len(own) for task, own in zip(tasks, scores, strict=True)},
        score=Reward(iqm=score.estimate, low=score.low, high=score.high),
        median=rounded(float(np.median([own.mean() for own in scores]))),
        optimality_gap=rounded(float(np.mean(gaps))),
        tasks={
            t: rounded(float(statistics.iqm(own))) for t, own in zip(tasks, scores, strict=True)
        },
        profile=[rate(share) for share in statistics.profile_interval(scores, LEVELS)],
    )


def _size(board: Board) -> tuple[int, int]:
    return (board.protocol.budget.steps or 0, len(_trained(board)))


def _trained(board: Board) -> list[Row]:
    return [row for row in board.rows if row.status == "finished" and not row.floor]


def _scale(board: Board) -> Scale | None:
    """The scale of a board with a floor and two trained rows, one of them above the floor."""
    floors = [row for row in board.rows if row.floor and row.reward is not None]
    floors.sort(key=lambda row: (row.row != BASELINE, row.algorithm != BASELINE, row.row))
    rows = _trained(board)
    if not floors or len(rows) < 2 or not board.ranked:  # a demonstration ranks nobody
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
