"""The front page: methods by tasks in one picture, claims beside it, then every board."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tabulate import tabulate

from pairbench.leaderboard.build import Board
from pairbench.leaderboard.conclusion import conclusion, listed
from pairbench.leaderboard.overall import Overall, OverallRow
from pairbench.leaderboard.rows import Reward, Row
from pairbench.leaderboard.site.names import OVERALL, plain_task, plain_title
from pairbench.leaderboard.site.pages import chart, filled, score_name
from pairbench.leaderboard.text import cell, markdown_text, protocol_line
from pairbench.registry import split_task
from pairbench.text import number

BESIDE = {
    "claims": (
        "The papers' claims, checked",
        "What the papers assert, each with its assumption, the numbers and a verdict.",
    ),
    "replication": (
        "A paper's tables beside ours",
        "Orders, paired verdicts and rank correlations with their intervals, and what noise costs.",
    ),
}
"""Pages that a folder may have beside the boards: title, and what they hold."""


def index_page(
    boards: Sequence[Board],
    stems: Sequence[str],
    both: Overall | None,
    beside: Sequence[str],
    claims: Sequence[Mapping[str, str]] = (),
) -> str:
    """Returns the page that shows all methods by tasks, and links every board's page.

    Args:
        boards: all boards.
        stems: of their files.
        both: the board over tasks, if there is one.
        beside: which of `BESIDE` there are.
        claims: as `claims_of` returns them.
    """
    series = series_of(boards)
    apart = [board for _, several in series for _, board in several[1:]]
    columns = columns_of(boards, apart)
    stem = {board.board: own for board, own in zip(boards, stems, strict=True)}
    away = {stem[board.board] for board in apart}
    return filled(
        "index",
        boards=[entry for entry in _entries(boards, stems, both) if entry["stem"] not in away],
        algorithms=sorted({row.algorithm for board in boards for row in board.rows}),
        beside=[(name, *BESIDE[name]) for name in beside],
        columns=[(plain_title(board), stem[board.board]) for board in columns],
        lines=matrix(columns),
        noise=_noise(boards, series),
        stem=stem,
        claims=claims,
    )


def index_text(
    boards: Sequence[Board], stems: Sequence[str], both: Overall | None, beside: Sequence[str]
) -> str:
    """Returns the same as Markdown, which links every board's Markdown."""
    lines = [
        "# Leaderboards",
        "Each board below is a Markdown file. In a clone, open `index.html` in a browser for the "
        "same boards with sorting, learning curves, and a page of every run and every algorithm; "
        "it needs no server. Each board is also a JSON file at full precision. All of this is made "
        "from `results/` by `pairbench leaderboard --site leaderboards`.",
        tabulate(
            [
                [
                    f"[{markdown_text(entry['title'])}]({quote(entry['stem'])}.md)",
                    entry["trained"],
                    entry["runs"],
                    markdown_text(listed([row["row"] for row in entry["best"]], LEADERS)),
                ]
                for entry in _entries(boards, stems, both)
            ],
            ["board", "ranked rows", "runs", "first rank"],
            tablefmt="pipe",
            disable_numparse=True,
        ),
    ]
    series = series_of(boards)
    columns = columns_of(boards, [b for _, several in series for _, b in several[1:]])
    lines += [
        "Ranks of every row that is on two of these boards or more; a gap means that it was not "
        "run there.",
        tabulate(
            [
                [
                    markdown_text(line["row"]),
                    *("" if c is None else str(c["rank"] or "-") for c in line["cells"]),
                ]
                for line in matrix(columns, 2)
            ],
            ["method", *(markdown_text(plain_title(board)) for board in columns)],
            tablefmt="pipe",
            disable_numparse=True,
        ),
    ]
    if beside:
        lines.append(
            "\n".join(f"- [{BESIDE[name][0]}]({name}.md): {BESIDE[name][1]}" for name in beside)
        )
    return "\n\n".join(lines) + "\n"


LEADERS = 6
"""Rows of the first rank named one by one on an index."""


def _entries(
    boards: Sequence[Board], stems: Sequence[str], both: Overall | None
) -> list[dict[str, Any]]:
    """What an index says of each board, the one over tasks first."""
    found: list[dict[str, Any]] = []
    if both is not None:
        found.append(
            {
                "title": "Overall",
                "line": "Normalised scores of the rows that are on all of "
                f"{', '.join(scale.task for scale in both.scales)}.",
                "conclusion": "",
                "stem": OVERALL,
                "trained": len(both.rows),
                "runs": sum(sum(row.n_seeds.values()) for row in both.rows),
                "best": _best((row, row.score) for row in both.rows),
            }
        )
    return found + [
        {
            "title": plain_title(board),
            "line": protocol_line(board),
            "conclusion": conclusion(board),
            "stem": stem,
            "trained": sum(not row.floor for row in board.ranked),
            "runs": sum(row.n_seeds for row in board.rows),
            "best": _best((row, row.reward) for row in board.rows),
        }
        for board, stem in zip(boards, stems, strict=True)
    ]


def _best(rows: Iterable[tuple[Row | OverallRow, Reward | None]]) -> list[dict[str, str]]:
    return [{"row": row.row, "reward": cell(score)} for row, score in rows if row.rank == 1]


# the picture: methods by tasks


def columns_of(boards: Sequence[Board], apart: Iterable[Board]) -> list[Board]:
    """Returns the boards that are a column of the picture: those that rank, of newest versions.

    `apart` are those that are shown elsewhere.
    """
    left = {board.board for board in apart}
    newest: dict[Any, Board] = {}
    for board in boards:
        if board.ranked and board.board not in left:
            known = newest.get(key := (board.task, board.protocol.budget))
            if known is None or _newer(board, known):
                newest[key] = board
    return list(newest.values())


def every_row(
    boards: Sequence[Board], stems: Sequence[str], both: Overall
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Returns columns (title, stem) and lines of the picture of the tasks of a board over tasks."""
    chosen = {scale.board for scale in both.scales}
    pairs = [(b, stem) for b, stem in zip(boards, stems, strict=True) if b.board in chosen]
    return [(plain_title(b), stem) for b, stem in pairs], matrix([b for b, _ in pairs])


def _newer(board: Board, known: Board) -> bool:
    ours, theirs = board.task_version, known.task_version
    return (len(ours), ours) > (len(theirs), theirs)


def matrix(columns: Sequence[Board], least: int = 1) -> list[dict[str, Any]]:
    """Returns a line for each trained row that is on `least` boards of `columns` or more.

    Those on most boards come first, then those of the best mean place. Each line has the row's
    name, its algorithm, and a cell for each board: rank, score, interval, and how far up the
    board's scale the score lies, in per cent; None where the row is not on the board.
    """
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for board in columns:
        for row in board.rows:
            if row.reward is not None and not row.floor:
                found[row.row][board.board] = row
    lines = []
    for name, own in found.items():
        if len(own) < least:
            continue
        cells = [_cell(own.get(board.board), board) for board in columns]
        tints = [c["tint"] for c in cells if c is not None]
        lines.append(
            {
                "row": name,
                "algorithm": next(iter(own.values())).algorithm,
                "cells": cells,
                "on": len(own),
                "place": sum(tints) / len(tints),
            }
        )
    return sorted(lines, key=lambda line: (-line["on"], -line["place"], line["row"]))


def _cell(row: Row | None, board: Board) -> dict[str, Any] | None:
    if row is None or row.reward is None:
        return None
    reward = row.reward
    scores = [r.reward.iqm for r in board.rows if r.reward is not None]
    floors = [r.reward.iqm for r in board.rows if r.reward is not None and r.row == board.baseline]
    low, high = min(floors or scores), max(scores)
    there = (reward.iqm - low) / (high - low) if high > low else 0.0
    interval = "" if reward.low is None else f"{number(reward.low)} to {number(reward.high or 0.0)}"
    return {
        "rank": row.rank,
        "text": number(reward.iqm),
        "interval": interval,
        "tint": round(100 * min(max(there, 0.0), 1.0)),
    }


# boards that differ in one number


def series_of(boards: Sequence[Board]) -> list[tuple[str, list[tuple[float, Board]]]]:
    """Returns (setting, boards by its value) for each number in which variants of a task differ.

    A task's variants belong to a series with it where budgets are the same and exactly one
    setting differs, a number; it takes two of them.
    """
    found: dict[Any, list[tuple[float, Board]]] = defaultdict(list)
    plain = {(b.task, b.task_version, b.protocol): b for b in boards}
    for board in boards:
        task, variant = split_task(board.task)
        base = plain.get((task, board.task_version, board.protocol)) if variant else None
        if base is None:
            continue
        keys = board.task_config.keys() | base.task_config.keys()
        pairs = {k: (board.task_config.get(k), base.task_config.get(k)) for k in keys}
        other = {k: v for k, (v, before) in pairs.items() if v != before and (v or before)}
        if len(other) == 1:
            ((name, value),) = other.items()
            if isinstance(value, float | int) and not isinstance(value, bool):
                found[base.board, name].append((float(value), board))
    at_hand = {board.board: board for board in boards}
    series = []
    for (base_id, name), several in found.items():
        if len(several) > 1:
            zero = at_hand[base_id]
            start = float(zero.task_config.get(name) or 0.0)
            series.append((name, sorted([(start, zero), *several], key=lambda item: item[0])))
    return series


def _noise(
    boards: Sequence[Board], series: Sequence[tuple[str, list[tuple[float, Board]]]]
) -> list[dict[str, Any]]:
    """A card for each series: its chart, and links to its boards."""
    cards = []
    for name, several in series:
        base = several[0][1]
        rows = [
            (row, points)
            for row in base.rows
            if (points := _along(row.row, several)) is not None and not row.floor
        ]
        words = name.replace("_", " ")
        title = f"{plain_task(base.task)} against {words}"
        cards.append(
            {
                "id": f"by-{name}",
                "title": title,
                "chart": chart(base, f"by-{name}", title, [(words, True)], rows, score_name(base)),
                "boards": [(f"{words} {value:g}", board) for value, board in several],
            }
        )
    return cards


def _along(name: str, several: Sequence[tuple[float, Board]]) -> list[Any] | None:
    points = []
    for value, board in several:
        row = next((row for row in board.rows if row.row == name), None)
        if row is None or row.reward is None:
            return None
        points.append([row.reward.iqm, row.reward.low, row.reward.high, value])
    return points


def claims_of(folder: Path) -> list[dict[str, str]]:
    """Returns statement and verdict of each claim that a folder's `claims.json` holds, if any."""
    try:
        found = json.loads((folder / "claims.json").read_text(encoding="utf-8"))["claims"]
        return [{key: str(claim[key]) for key in ("id", "statement", "verdict")} for claim in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []
