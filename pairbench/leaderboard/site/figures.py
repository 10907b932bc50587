"""Figures for papers from records: vector files of one column's width, the same bytes every time.

Colours are Okabe and Ito's, which colour-blind readers tell apart; line styles and markers say the
same again, so that a print in grey can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import Board, build
from pairbench.leaderboard.overall import OverallRow, overall
from pairbench.leaderboard.rows import Row
from pairbench.leaderboard.site.pages import distance_axis, frontier, profile, score_name
from pairbench.results.files import atomic_write
from pairbench.results.marks import Reproduction
from pairbench.results.record import RunRecord
from pairbench.text import did_you_mean, printable

AnyRow = TypeVar("AnyRow", Row, OverallRow)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX"
FLOOR = {"color": "0.5", "linestyle": (0, (4, 4)), "linewidth": 0.9}

BANDS = 6
"""Rows beyond which intervals of curves are left out, since they would cover each other."""

STYLE: dict[str, Any] = {
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
    "svg.hashsalt": "pairbench",
    "text.parse_math": False,
}

UNDATED = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}
"""Metadata that would make two files of one figure differ, by the file's suffix."""


def draw(
    records: Iterable[RunRecord],
    kind: str,
    task: str | None = None,
    rows: Sequence[str] = (),
    out: Path | None = None,
    width: float = 3.3,
    marks: Iterable[Reproduction] = (),
) -> Path:
    """Draws one figure and returns its file.

    Args:
        records: any records; a task's largest board is drawn.
        kind: "curves", "intervals", "profile" (share of runs above each score) or "frontier" (score
            against the distance to the untrained policy).
        task: the task; a profile without one is of normalised scores over all tasks.
        rows: those to draw, as the board calls them; all of them by default.
        out: a .pdf or .svg file; named after board and kind by default.
        width: in inches.
        marks: of the results folder, which say what sources are the same.

    Raises:
        PairBenchError: there is no such task or row, nothing of that kind to draw, another suffix,
            or the file cannot be written.
    """
    kept = list(records)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, 0.68 * width))
        if task is None and kind == "profile":
            stem = "overall-profile"
            _overall_profile(figure, build(kept, marks=marks), kept, rows)
        elif task is None:
            raise PairBenchError(f"a figure of {kind} is of one task: name it with --task")
        else:
            board = build(kept, task, marks=marks)[0]
            stem = f"{board.slug}-{kind}"
            there = {row.row: row for row in board.rows if row.reward is not None}
            KINDS[kind](figure, board, _chosen(there, rows, f"with results on {board.title}"))
        path = out or Path(f"{stem}.pdf")
        suffix = path.suffix.lower()
        if suffix not in UNDATED:
            raise PairBenchError(f"{path} is no vector file: end its name in .pdf or .svg")
        data = BytesIO()
        figure.savefig(data, format=suffix[1:], metadata=UNDATED[suffix])
    try:
        atomic_write(path, data.getvalue())
    except OSError as error:
        raise PairBenchError(f"{path} cannot be written ({error.strerror})") from error
    return path


def _chosen(there: Mapping[str, AnyRow], names: Sequence[str], where: str) -> list[AnyRow]:
    for name in names:
        if name not in there:
            raise PairBenchError(f"no row {name!r} {where}{did_you_mean(name, there)}")
    return [there[name] for name in names or there]


def _styles(rows: Sequence[Row | OverallRow]) -> dict[str, dict[str, Any]]:
    """A line's look by row: colours first, then line styles; floors in grey."""
    looks: dict[str, dict[str, Any]] = {row.row: dict(FLOOR) for row in rows}
    trained = [row.row for row in rows if not (isinstance(row, Row) and row.floor)]
    for k, name in enumerate(trained):
        line = LINES[(k // len(COLOURS)) % len(LINES)]
        looks[name] = {"color": COLOURS[k % len(COLOURS)], "linestyle": line}
    return looks


def _curves(figure: Figure, board: Board, rows: list[Row]) -> None:
    axes = figure.add_subplot()
    looks = _styles(rows)
    lines = {}
    for row in rows:
        look = looks[row.row]
        if len(row.curve) < 2:
            assert row.reward is not None
            lines[row.row] = axes.axhline(row.reward.iqm, **look)
            continue
        steps = [point.steps for point in row.curve]
        (lines[row.row],) = axes.plot(steps, [point.iqm for point in row.curve], **look)
        if len(rows) <= BANDS:
            _band(axes, steps, row.curve, look)
    axes.set_xlim(left=0)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4))
    axes.set_xlabel(board.step_unit)
    axes.set_ylabel(score_name(board))
    _legend(figure, lines)


def _intervals(figure: Figure, board: Board, rows: list[Row]) -> None:
    figure.set_size_inches(figure.get_figwidth(), 0.55 + 0.17 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        assert row.reward is not None
        colour = "0.5" if row.floor else COLOURS[0]
        if row.reward.low is not None:
            axes.plot([row.reward.low, row.reward.high], [place, place], color=colour, linewidth=3,
                      alpha=0.35, solid_capstyle="butt")  # fmt: skip
        axes.plot([row.reward.iqm], [place], marker="|", markersize=7, markeredgewidth=1.5,
                  color=colour)  # fmt: skip
    names = [f"{printable(row.row)} ({row.n_seeds})" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=6.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(score_name(board))


def _profile(figure: Figure, board: Board, rows: list[Row]) -> None:
    wanted = {row.row for row in rows}
    found = [(row, points) for row, points in profile(board) if row.row in wanted]
    if not found:
        raise PairBenchError(
            f"{board.title} has no row with two seeds to draw a profile of: run more seeds"
        )
    looks = _styles([row for row, _ in found])
    axes = figure.add_subplot()
    lines = {}
    for row, points in found:
        levels, shares = [level for level, _ in points], [share for _, share in points]
        (lines[row.row],) = axes.plot(levels, [s.estimate for s in shares], **looks[row.row])
        if len(found) <= BANDS:
            _band(axes, levels, shares, looks[row.row])
    _end_profile(figure, axes, score_name(board), lines)


def _end_profile(figure: Figure, axes: Axes, score: str, lines: dict[str, Any]) -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"{score}: x")
    axes.set_ylabel("share of runs above x")
    _legend(figure, lines)


def _band(axes: Axes, places: list[float], points: Sequence[Any], look: dict[str, Any]) -> None:
    """The intervals of points that all have one, behind their line."""
    if all(point.low is not None for point in points):
        low, high = ([getattr(point, end) for point in points] for end in ("low", "high"))
        axes.fill_between(places, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _overall_profile(
    figure: Figure, boards: list[Board], records: list[RunRecord], names: Sequence[str]
) -> None:
    board = overall(records, boards=boards)
    if board is None:
        raise PairBenchError(
            "there is no profile over tasks: it needs two tasks with an untrained row, and two "
            "trained rows that have finished on both"
        )
    rows = _chosen({row.row: row for row in board.rows}, names, "on all tasks")
    looks = _styles(rows)
    axes = figure.add_subplot()
    lines = {}
    for row in rows:
        shares = [share.estimate for share in row.profile]
        (lines[row.row],) = axes.plot(board.levels, shares, **looks[row.row])
    _end_profile(figure, axes, "normalised score", lines)


def _frontier(figure: Figure, board: Board, rows: list[Row]) -> None:
    names, found = frontier(board)
    if not names:
        raise PairBenchError(
            f"{board.title} does not measure a distance to the untrained policy: draw curves"
        )
    looks = _styles(rows)
    wanted = {row.row for row in rows}
    axes = figure.add_subplot()
    lines: dict[str, Any] = {}
    for row, points in found:
        if row.row not in wanted:
            continue
        look = looks[row.row]
        if row.floor:
            lines[row.row] = axes.axhline(points[0][0], **look)
            continue
        x, y = [point[3] for point in points], [point[0] for point in points]
        (lines[row.row],) = axes.plot(x, y, **look)
        axes.plot(x[-1:], y[-1:], marker=MARKERS[len(lines) % len(MARKERS)], markersize=4,
                  color=look["color"])  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_xlabel(distance_axis(board)[0])
    axes.set_ylabel(score_name(board))
    _legend(figure, lines)


def _legend(figure: Figure, lines: dict[str, Any]) -> None:
    """Names below the axes in two columns; the figure grows by what they take."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.13 * ((len(lines) + 1) // 2))
    # a leading underscore would hide a name
    names = [f" {name}" if name.startswith("_") else name for name in map(printable, lines)]
    figure.legend(lines.values(), names, loc="outside lower center", ncols=2, handlelength=2.2)


KINDS: dict[str, Callable[[Figure, Board, list[Row]], None]] = {
    "curves": _curves,
    "intervals": _intervals,
    "profile": _profile,
    "frontier": _frontier,
}
