"""Boards as text: terminal table, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from tabulate import tabulate

from pairbench import statistics
from pairbench.leaderboard.build import Board, budget_label
from pairbench.leaderboard.columns import Column, Interval, Value, columns
from pairbench.leaderboard.conclusion import conclusion
from pairbench.leaderboard.overall import Overall
from pairbench.leaderboard.rows import Rate, Reward
from pairbench.text import number, printable

TEXTS = ("rank", "row", "algorithm", "regime", "configuration")
"""Columns that are aligned on the left."""


def percent(value: float) -> str:
    """Returns a share in per cent."""
    return f"{100 * value:z.0f}%"


def middle(value: Interval) -> float:
    """Returns the number that an interval is of."""
    return value.iqm if isinstance(value, Reward) else value.estimate


def cell(value: Value) -> str:
    """Returns a value with its interval as plain text; an empty string where there is none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Interval):
        show = percent if isinstance(value, Rate) else number
        if value.low is None or value.high is None:
            return show(middle(value))
        return f"{show(middle(value))} [{show(value.low)}, {show(value.high)}]"
    return number(value)


def protocol_line(board: Board) -> str:
    """Returns one line saying what the rows of a board share."""
    protocol = board.protocol
    rates = "learning rates annealed to zero" if protocol.anneal else "constant learning rates"
    contexts = f", {board.n_contexts} held-out contexts" if board.n_contexts else ""
    if protocol.engine != "pairbench":
        rates += f", in {protocol.engine.upper()}'s training loop"
    if protocol.adam_eps != 1e-5:
        rates += f", Adam's epsilon {protocol.adam_eps:g}"
    return printable(
        f"{board.task} version {board.task_version}, {budget_label(protocol.budget)} "
        f"({board.step_unit}), {rates}{contexts}, board {board.board[:8]}"
    )


def resolution_line(board: Board) -> str:
    """Returns what the board can tell apart in a sentence, "" where it has no pair to say it of."""
    found = board.resolution
    if found is None:
        return ""
    alone = statistics.least_p_value(max(pair.n_seeds for pair in board.pairs))
    least = alone * found.pairs
    said = (
        f"What it can tell: {found.separated} of {found.pairs} pair{'s' * (found.pairs > 1)} of "
        f"trained rows ({percent(found.separated / found.pairs)}) by interval and swap test at 5%, "
        f"corrected for so many (Holm){', which so few seeds cannot pass' if least > 0.05 else ''}"
    )
    if not found.detectable:  # every seed has the same difference
        return f"{said}."
    return (
        f"{said}; a pair of median spread would {'hint at' if alone > 0.05 else 'show'} a true "
        "difference of "
        f"{number(found.detectable)} with 80% power, uncorrected."
    )


def notes(board: Board) -> list[str]:
    """Returns what is to be said of data and code, and a line for each row that needs one.

    Such rows have failed, were skipped, or have no rank.
    """
    return [
        *map(printable, board.notes),
        *(
            f"{printable(row.row)}{f' ({row.status})' if row.status != 'finished' else ''}: "
            f"{printable(row.reason)}"
            for row in board.rows
            if row.reason
        ),
    ]


def _table(
    board: Board, shown: list[Column], style: str, escape: Callable[[str], str] = str
) -> str:
    """A line for each row; one without a result shows its status in place of a rank.

    `escape` is applied to what others wrote (names), not to numbers.
    """
    lines = []
    for row in board.rows:
        values = [column.get(row) for column in shown]
        texts = [escape(cell(v)) if isinstance(v, str) else cell(v) for v in values]
        if row.rank is None:
            texts[0] = "-" if row.status == "finished" else row.status
        lines.append(texts)
    return _tabulated(
        lines,
        [escape(column.title) for column in shown],
        style,
        [place for place, column in enumerate(shown) if column.key in TEXTS],
    )


def _tabulated(
    lines: list[list[str]], headings: list[str], style: str, left: Collection[int] = (0, 1)
) -> str:
    """A table of texts, those of the columns `left` aligned on the left."""
    return tabulate(
        lines,
        headings,
        tablefmt=style,
        disable_numparse=True,
        colalign=["left" if place in left else "right" for place in range(len(headings))],
    )


def as_json(board: Board | Overall) -> str:
    """Returns all of a board."""
    return json.dumps(board.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def as_table(board: Board) -> str:
    """Returns a board for a terminal: the brief columns, and a line for each row that needs one."""
    table = _table(board, [column for column in columns(board) if column.brief], "simple")
    above = "whole interval lies above its own"
    if any(row.behind for row in board.rows):
        above = "paired difference to it lies above 0"
    legend = (
        "Interquartile mean over seeds [95% interval]; a row's rank is one more than the number of "
        f"rows whose {above}."
    )
    lines = [legend, *filter(None, [resolution_line(board)]), *notes(board)]
    head = [protocol_line(board), *map(printable, board.caveats)]
    return "\n".join([*head, "", table, "", *lines]) + "\n"


def as_markdown(board: Board) -> str:
    """Returns a board with every column, and what they mean, as GitHub renders it."""
    shown = columns(board)
    table = _table(board, shown, "pipe", markdown_text)
    parts = [f"# {markdown_text(board.title)}"]
    parts += [f"**{markdown_text(said)}**"] if (said := conclusion(board)) else []
    parts.append(markdown_text(protocol_line(board)))
    parts += [*(f"**{markdown_text(caveat)}**" for caveat in board.caveats), table]
    parts += filter(None, [markdown_text(resolution_line(board))])
    if notes(board):
        parts.append("\n".join(f"- {markdown_text(note)}" for note in notes(board)))
    parts.append(
        "\n".join(f"- **{markdown_text(c.title)}**: {markdown_text(c.meaning)}" for c in shown)
    )
    return "\n\n".join(parts) + "\n"


def as_latex(board: Board) -> str:
    """Returns the brief columns as a table of the package booktabs."""
    table = _table(board, [column for column in columns(board) if column.brief], "latex_booktabs")
    head = "".join(f"% {printable(line)}\n" for line in (protocol_line(board), *board.caveats))
    return f"{head}% needs the package booktabs\n{table}\n"


def as_csv(board: Board) -> str:
    """Returns every column at full precision; a value with an interval takes three columns."""
    table: list[list[Any]] = [["status", *(row.status for row in board.rows)]]
    for column in columns(board):
        values = [column.get(row) for row in board.rows]
        if column.key == "configuration":
            values = [row.configuration for row in board.rows]
        if not any(isinstance(value, Interval) for value in values):
            table.append([column.key, *map(_plain, values)])
            continue
        ends = [
            (middle(value), value.low, value.high) if isinstance(value, Interval) else (None,) * 3
            for value in values
        ]
        heads = (column.key, f"{column.key}_low", f"{column.key}_high")
        table += map(list, zip(heads, *ends, strict=True))
    table.append(["reason", *(_plain(row.reason) for row in board.rows)])
    return _written(zip(*table, strict=True))


def _written(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _plain(value: Value) -> Any:
    """A value for CSV; a text that a spreadsheet would take for a formula gets an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def markdown_text(text: str) -> str:
    """Returns text that Markdown shows as it stands, whatever marks or HTML it holds."""
    names = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return "".join(names.get(c, f"\\{c}" if c in "\\`*_[]|#~" else c) for c in printable(text))


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


def overall_as_table(board: Overall) -> str:
    """Returns a board over tasks for a terminal."""
    notes = map(printable, _overall_notes(board))
    return "\n".join(["Overall", "", _overall(board, "simple"), "", *notes]) + "\n"


def overall_as_markdown(board: Overall) -> str:
    """Returns a board over tasks as GitHub renders it."""
    lines = "\n".join(f"- {markdown_text(note)}" for note in _overall_notes(board))
    return f"# Overall\n\n{_overall(board, 'pipe', markdown_text)}\n\n{lines}\n"


def overall_as_latex(board: Overall) -> str:
    """Returns a board over tasks as a table of the package booktabs."""
    told = "\n".join(f"% {printable(note)}" for note in _overall_notes(board))
    return f"{told}\n% needs the package booktabs\n{_overall(board, 'latex_booktabs')}\n"


def overall_as_csv(board: Overall) -> str:
    """Returns a board over tasks at full precision."""
    tasks = [scale.task for scale in board.scales]
    fixed = ["rank", "row", "score", "score_low", "score_high", "median", "optimality_gap"]
    lines: list[list[Any]] = [[*fixed, *tasks, *(f"above_{level:g}" for level in board.levels)]]
    for row in board.rows:
        score = [row.score.iqm, row.score.low, row.score.high, row.median, row.optimality_gap]
        shares = [share.estimate for share in row.profile]
        lines.append(
            [row.rank, printable(row.row), *score, *(row.tasks[task] for task in tasks), *shares]
        )
    return _written(lines)


def _overall(board: Overall, style: str, escape: Callable[[str], str] = str) -> str:
    lines = [[escape(text) for text in line] for line in cells(board)]
    return _tabulated(lines, [escape(heading) for heading in headings(board)], style)


def _overall_notes(board: Overall) -> list[str]:
    left = board.left_out
    told = f"Not on all of these tasks: {', '.join(left)}."
    return [*explained(board), *([told] if left else [])]
