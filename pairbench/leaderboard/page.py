"""Boards as self-contained pages: no server, no outside request, the same bytes every time."""

from __future__ import annotations

import json
import shlex
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pairbench.leaderboard.board import KL, Board, Rate, Row
from pairbench.leaderboard.formats import (
    OVERALL,
    Column,
    Interval,
    cell,
    columns,
    middle,
    number,
    percent,
    protocol_line,
)
from pairbench.leaderboard.overall import Overall, cells, explained, headings

AXES = {KL: "KL to the untrained policy, nats per response"}
"""What the learning curves may be drawn against, in words; other scores are called by name."""

MANY = 6
"""Values of one provenance field named one by one; beyond that they are counted."""


def board_page(board: Board) -> str:
    """Returns a board as one HTML page: table, learning curves, settings, provenance."""
    shown = columns(board)
    axes = list(dict.fromkeys(name for row in board.rows for p in row.curve for name in p.along))
    return (
        environment()
        .get_template("board.html.j2")
        .render(
            board=board,
            columns=[_column(column, board) for column in shown],
            rows=[_row(row, shown, board) for row in board.rows],
            curves=_embedded(
                {
                    "axes": [board.step_unit, *(AXES.get(name, name) for name in axes)],
                    "score": board.scored,
                    "rows": [
                        {"row": row.row, "floor": row.floor, "curve": _curve(row, axes)}
                        for row in board.rows
                        if row.reward is not None
                    ],
                }
            ),
            axes=[AXES.get(name, name) for name in axes],
            score=(
                f"Reward ({board.scored} policy)" if board.scores_of == "policy" else board.scored
            ),
            judge_entries=list(dict.fromkeys(k for card in board.judges.values() for k in card)),
            protocol_line=protocol_line(board),
            provenance=[_field(name, values) for name, values in board.provenance.items()],
            command=(
                "pairbench leaderboard --site leaderboards\n"
                f"pairbench leaderboard --task {shlex.quote(board.task)} --format json"
            ),
        )
    )


def overall_page(board: Overall) -> str:
    """Returns the board over tasks as one HTML page: its table and its performance profiles."""
    return (
        environment()
        .get_template("overall.html.j2")
        .render(
            board=board,
            headings=headings(board),
            cells=cells(board),
            explained=explained(board),
        )
    )


def index_page(
    boards: list[Board],
    stems: list[str],
    both: Overall | None = None,
    claims: bool = False,
    replication: bool = False,
) -> str:
    """Returns the page that links every board's page, with its best rows.

    `both` is the board over tasks; `claims` and `replication` say whether there are such pages.
    """
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            claims=claims,
            replication=replication,
            both=None
            if both is None
            else {
                "stem": OVERALL,
                "tasks": [scale.task for scale in both.scales],
                "best": [
                    {"row": row.row, "reward": cell(row.score)}
                    for row in both.rows
                    if row.rank == 1
                ],
            },
            boards=[
                {
                    "title": board.title,
                    "line": protocol_line(board),
                    "stem": stem,
                    "trained": sum(not row.floor for row in board.ranked),
                    "runs": sum(row.n_seeds for row in board.rows),
                    "best": [
                        {"row": row.row, "reward": cell(row.reward)}
                        for row in board.rows
                        if row.rank == 1
                    ],
                }
                for board, stem in zip(boards, stems, strict=True)
            ],
        )
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Returns the templates of all pages; text is escaped and printable."""
    environment = Environment(
        loader=PackageLoader("pairbench.leaderboard", "."),
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
    return environment


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
        "first": "descending" if column.better > 0 else "ascending",
    }


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


def _curve(row: Row, axes: list[str]) -> list[list[float | None]]:
    """Points (IQM, low, high, steps, other axes); one point means a level that does not change."""
    assert row.reward is not None
    if len(row.curve) < 2:
        return [[row.reward.iqm, row.reward.low, row.reward.high]]
    return [
        [p.iqm, p.low, p.high, p.steps, *(p.along.get(name) for name in axes)] for p in row.curve
    ]


def _field(name: str, values: dict[str, int]) -> dict[str, Any]:
    shown = list(values.items()) if len(values) <= MANY else []
    return {"name": name, "values": shown, "count": len(values)}


def _embedded(value: Any) -> Markup:
    """JSON that is safe inside a script element, whatever text it holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)
