"""Boards as self-contained pages: no server, no outside request, the same bytes every time."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import Board
from pairbench.leaderboard.columns import Column, Interval, columns
from pairbench.leaderboard.conclusion import conclusion
from pairbench.leaderboard.overall import Overall, OverallRow
from pairbench.leaderboard.pairs import Pair
from pairbench.leaderboard.rows import CurveBand, Rate, Row, with_role
from pairbench.leaderboard.site.names import algorithm_link, plain_task, plain_title, run_link
from pairbench.leaderboard.site.sparklines import SHOWN, STEADY, Series, bands, scale
from pairbench.leaderboard.text import (
    cells,
    explained,
    headings,
    middle,
    percent,
    protocol_line,
    resolution_line,
)
from pairbench.registry import get_algorithm
from pairbench.text import number

LEVELS = 31
"""Points of a board's performance profile."""

GROUPS = ("main", "measures", "spread", "stability", "cost", "origin")
"""Columns that are shown together, in the order that they are offered in."""

MANY = 6
"""Values of one provenance field named one by one; beyond that they are counted."""


def board_page(
    board: Board, linked: bool = False, series: Mapping[str, Series] | None = None
) -> str:
    """Returns a board as one HTML page: table, curves, comparisons, settings, provenance.

    Args:
        board: what is shown.
        linked: whether the pages of its runs and algorithms, and the index, are beside it.
        series: what was measured in each iteration, by the run's identity; there are no stability
            strips without.
    """
    shown = columns(board)
    return filled(
        "board",
        board=board,
        plain=plain_title(board),
        conclusion=conclusion(board),
        linked=linked,
        rank_meaning=next(column.meaning for column in shown if column.key == "rank"),
        columns=[_column(column, board) for column in shown],
        groups=_groups(shown),
        rows=[_row(row, shown, board) for row in board.rows],
        regimes=sorted({row.regime for row in board.rows if row.regime}),
        departures=_departures(board),
        summary=[*summary(board), *board.notes],
        curves=_curves(board),
        frontier=_frontier(board),
        distance=getattr(with_role(board.measures, "distance"), "meaning", ""),
        profile=_profile(board),
        matrix=_matrix(board),
        strips=_strips(board, series or {}),
        score=score_name(board)[:1].upper() + score_name(board)[1:],
        judge_entries=list(dict.fromkeys(k for card in board.judges.values() for k in card)),
        protocol_line=protocol_line(board),
        provenance=[_field(name, values) for name, values in board.provenance.items()],
        command=(
            "pairbench leaderboard --site leaderboards\n"
            f"pairbench leaderboard --task {shlex.quote(board.task)} --format json"
        ),
    )


def _departures(board: Board) -> dict[str, str]:
    """Returns by algorithm where its presets depart from its paper, as far as it is at hand."""
    found = {}
    for name in sorted({row.algorithm for row in board.rows}):
        with suppress(PairBenchError):
            found[name] = get_algorithm(name).departures
    return {name: text for name, text in found.items() if text}


def summary(board: Board) -> list[str]:
    """Returns what the board says of its rows, and what it cannot say, a sentence each."""
    return [*filter(None, [resolution_line(board)])]


def chart(
    board: Board | None,
    name: str,
    title: str,
    axes: list[tuple[str, bool]],
    curves: Iterable[tuple[Row | OverallRow, list[Any]]],
    score: str,
    percent: bool = False,
) -> Markup:
    """One chart, of a board or, without, of all tasks.

    Args:
        board: what it is of.
        name: of a file to save it in, after the board's.
        title: above it, before the board's.
        axes: of x, as (name, whether it starts at zero).
        curves: of each row, points as [y, low, high, x ...].
        score: what y is.
        percent: whether y is a share.
    """
    value = {
        "file": f"{board.slug}-{name}" if board else name,
        "title": f"{title}, {board.title}" if board else title,
        "axes": [{"name": axis, "zero": zero, "band": name != "frontier"} for axis, zero in axes],
        "score": score,
        "percent": percent,
        "rows": [
            {"row": row.row, "floor": isinstance(row, Row) and row.floor, "curve": points}
            for row, points in curves
        ],
    }
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":  # safe inside a script element, whatever text it holds
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def score_name(board: Board) -> str:
    """Returns what the score that ranks is called on an axis."""
    return f"reward, {board.scored} policy" if board.scores_of == "policy" else board.scored


def _curves(board: Board) -> Markup:
    """Learning curves against what was spent."""
    labels = any(point.labels for row in board.rows for point in row.curve)
    axes = [(board.step_unit, True), *([("labels", True)] * labels)]
    found = [
        (row, _points(row, lambda point: [point.steps, point.labels]))
        for row in board.rows
        if row.reward is not None
    ]
    return chart(board, "curves", "Learning curves", axes, found, score_name(board))


def _frontier(board: Board) -> Markup | None:
    """The score that ranks against the distance to the untrained policy and the other scores."""
    names, found = frontier(board)
    if not names:
        return None
    axes = [distance_axis(board) if name == names[0] else (name, False) for name in names]
    return chart(board, "frontier", "Frontier", axes, found, score_name(board))


def distance_axis(board: Board) -> tuple[str, bool]:
    """Returns what the distance to the untrained policy is called on an axis, which has a zero."""
    distance = with_role(board.measures, "distance")
    assert distance is not None  # nothing lies along a curve without
    return ", ".join(filter(None, (distance.meaning, distance.unit))), True


def frontier(board: Board) -> tuple[list[str], list[tuple[Row, list[Any]]]]:
    """Returns what scores can be drawn against, and each row's points [IQM, low, high, those ...].

    The first is the distance to the untrained policy: every run begins there, and its point comes
    first. No names where the task does not measure it.
    """
    names = list(dict.fromkeys(name for row in board.rows for p in row.curve for name in p.along))

    def along(point: CurveBand) -> list[float | None]:
        return [point.along.get(name) for name in names]

    untrained = [row for row in board.rows if row.floor and row.row == board.baseline]
    start = [[p.iqm, None, None, *along(p)] for row in untrained for p in row.curve if p.along]
    return names, [
        (row, _points(row, along) if row.floor else [*start, *_points(row, along)])
        for row in board.rows
        if row.reward is not None
    ]


def _profile(board: Board) -> Markup | None:
    """Share of each trained row's runs above each score."""
    found = profile(board)
    if len(found) < 2:
        return None
    curves = [
        (
            row,
            [
                [*(None if v is None else round(v, 3) for v in share), float(f"{level:.4g}")]
                for level, share in points
            ],
        )
        for row, points in found
    ]
    axes = [(score_name(board), False)]
    return chart(board, "profile", "Performance profile", axes, curves, "share of runs", True)


def profile(board: Board) -> list[tuple[Row, list[tuple[float, statistics.Estimate]]]]:
    """Returns for each trained row with two seeds (score, share of its runs above it)."""
    kept = [r for r in board.rows if r.status == "finished" and not r.floor and r.n_seeds > 1]
    values = [value for row in kept for value in row.rewards.values()]
    if not values or min(values) == max(values):
        return []
    levels = np.linspace(min(values), max(values), LEVELS).tolist()
    return [
        (row, list(zip(levels, statistics.profile_interval([list(row.rewards.values())], levels))))
        for row in kept
    ]


def _matrix(board: Board) -> list[dict[str, Any]]:
    """The head-to-head table: share of contexts, paired difference and p-value of each pair."""
    if board.head_to_head is None:
        return []
    pairs = {(pair.a, pair.b): (pair, 1) for pair in board.pairs}
    pairs |= {(pair.b, pair.a): (pair, -1) for pair in board.pairs}
    names = board.head_to_head.rows
    return [
        {"row": a, "cells": [_meeting(share, pairs.get((a, b))) for b, share in zip(names, shares)]}
        for a, shares in zip(names, board.head_to_head.shares, strict=True)
    ]


def _meeting(share: float | None, found: tuple[Pair, int] | None) -> dict[str, Any] | None:
    if share is None or found is None:
        return None
    pair, sign = found
    gap = pair.difference
    interval = None
    if gap.low is not None and gap.high is not None:
        low, high = sorted((sign * gap.low, sign * gap.high))
        interval = f"{number(low)} to {number(high)}"
    return {
        "share": share,
        "tint": round(abs(2 * share - 1) * 55),
        "side": "win" if share > 0.5 else "loss",
        "difference": f"{sign * gap.estimate:+z.0f}"
        if abs(gap.estimate) >= 100
        else f"{sign * gap.estimate:+z.3g}",
        "interval": interval,
        "p": f"{pair.p_value:.2g}",
        "holm": f"{pair.p_holm:.2g}",
        "seeds": pair.n_seeds,
        "apart": not gap.includes_zero,
    }


def _strips(board: Board, series: Mapping[str, Series]) -> dict[str, Any] | None:
    """Of each trained row the series that say how steadily it went, one scale per quantity."""
    rows = [row for row in board.rows if any(run in series for run in row.runs.values())]
    runs = [[series[run] for run in row.runs.values() if run in series] for row in rows]
    columns = [(name, found) for name in STEADY if (found := bands(runs, name)) is not None]
    if not columns:
        return None
    return {
        "heads": [
            (SHOWN[name], scale(found.low, found.high) + ", log" * found.logarithmic)
            for name, found in columns
        ],
        "rows": [
            (row.row, [found.strips[k] for _, found in columns]) for k, row in enumerate(rows)
        ],
    }


def overall_page(
    board: Overall,
    columns: Sequence[tuple[str, str]] = (),
    lines: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Returns the board over tasks as one HTML page: its table and its performance profiles.

    `columns` (title, file's stem) and `lines` are of the picture of all rows, in a site.
    """
    curves: list[tuple[OverallRow, list[Any]]] = []
    for row in board.rows:
        shares = zip(row.profile, board.levels, strict=True)
        curves.append((row, [[share.estimate, share.low, share.high, x] for share, x in shares]))
    axes = [("normalised score", False)]
    title = "Performance profiles over tasks"
    return filled(
        "overall",
        board=board,
        headings=[plain_task(heading) for heading in headings(board)],
        cells=cells(board),
        explained=explained(board),
        columns=columns,
        lines=lines,
        profiles=chart(None, "overall-profile", title, axes, curves, "share of runs", True),
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Returns the templates of all pages; text is escaped and printable."""
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("pairbench.leaderboard.site", place) for place in ("templates", ".")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters["number"] = number
    environment.filters["brief"] = _brief
    environment.filters["percent"] = percent
    environment.filters["run_link"] = run_link
    environment.filters["algorithm_link"] = algorithm_link
    return environment


def filled(template: str, **values: Any) -> str:
    """Returns a page from its template, by the name before ".html.j2"."""
    return environment().get_template(f"{template}.html.j2").render(**values)


def _shown(value: Any) -> Any:
    """Text without the control characters that HTML does not allow."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "".join(c if c.isprintable() or c == "\n" else " " for c in value)
    return value


def _brief(value: Any) -> str:
    """An entry of a judge's card: a hash by its first digits, a number as in a table."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    text = str(value)
    return text[:12] if len(text) == 64 and " " not in text else text


def _column(column: Column, board: Board) -> dict[str, Any]:
    """A column's heading; a column without text sorts by number, the best first."""
    values = [column.get(row) for row in board.rows]
    return {
        "key": column.key,
        "title": column.title,
        "meaning": column.meaning,
        "numeric": not any(isinstance(value, str) for value in values),
        "groups": _groups_of(column),
        "first": "descending" if column.better > 0 else "ascending",
    }


def _groups_of(column: Column) -> str:
    """The groups a column is shown with, by space; none means all of them."""
    if column.group is None:
        return ""
    return f"main {column.group}" if column.brief else column.group


def _groups(shown: list[Column]) -> list[str]:
    there = {name for column in shown for name in _groups_of(column).split()}
    return [name for name in GROUPS if name in there]


def _row(row: Row, shown: list[Column], board: Board) -> dict[str, Any]:
    return {
        "it": row,
        "anchor": f"row-{row.configuration[:12]}",
        "bar": _bar(row, board),
        "cells": [_cell(column, row) for column in shown],
        "settings": json.dumps(row.config, indent=2, sort_keys=True, ensure_ascii=False),
    }


def _cell(column: Column, row: Row) -> dict[str, Any]:
    value = column.get(row)
    show = percent if isinstance(value, Rate) else number
    found = middle(value) if isinstance(value, Interval) else value
    interval = None
    if isinstance(value, Interval) and value.low is not None and value.high is not None:
        interval = f"{show(value.low)} to {show(value.high)}"
    return {
        "key": column.key,
        "value": "" if found is None else found,
        "text": "" if found is None else found if isinstance(found, str) else show(found),
        "interval": interval,
    }


def _bar(row: Row, board: Board) -> dict[str, float] | None:
    """Where a row's interval lies on the board's scale, in per cent of its width."""
    rewards = [r.reward for r in board.rows if r.reward is not None]
    if row.reward is None:
        return None
    # An interval from two seeds can dwarf the others; the scale follows the estimates then.
    middles = [reward.iqm for reward in rewards]
    spread = (max(middles) - min(middles)) or abs(max(middles)) or 1.0
    ends = [end for r in rewards for end in (r.iqm, r.low, r.high) if end is not None]
    low = max(min(ends), min(middles) - 0.5 * spread)
    high = min(max(ends), max(middles) + 0.5 * spread)
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * min(max((value - low) / width, 0.0), 1.0), 2)

    reward = row.reward
    start = place(reward.iqm if reward.low is None else reward.low)
    end = place(reward.iqm if reward.high is None else reward.high)
    return {
        "left": start,
        "width": round(end - start, 2),
        "at": place(reward.iqm),
        "zero": place(0.0) if low < 0 < high else -1.0,
    }


def _points(row: Row, along: Callable[[CurveBand], list[float | None]]) -> list[Any]:
    """Points (IQM, low, high, a value per axis); one point means a level that does not change."""
    assert row.reward is not None
    if len(row.curve) < 2:
        return [[row.reward.iqm, row.reward.low, row.reward.high]]
    return [[p.iqm, p.low, p.high, *along(p)] for p in row.curve]


def _field(name: str, values: dict[str, int]) -> dict[str, Any]:
    shown = list(values.items()) if len(values) <= MANY else []
    return {"name": name, "values": shown, "count": len(values)}
