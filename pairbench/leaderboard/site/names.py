"""Where a site keeps its pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from pairbench.leaderboard.build import Board, kept_in_names
from pairbench.results.record import digest

OVERALL = "overall"

SITE_FORMATS = {"md": "markdown", "json": "json"}
"""Of each board, by suffix, beside its page; a command gives the others."""


def slugs(boards: Sequence[Board]) -> list[str]:
    """Returns a distinct file stem per board: task and budget, with a digest where those agree."""
    stems = [board.slug for board in boards]
    lowered = [stem.lower() for stem in stems]
    return [
        stem if lowered.count(stem.lower()) == 1 else f"{stem}--{board.board[:8]}"
        for stem, board in zip(stems, boards, strict=True)
    ]


def run_link(identity: str) -> str:
    """Returns the address of a run in a site."""
    return f"run.html#{identity[:16]}"


def algorithm_anchor(name: str) -> str:
    """Returns the place of an algorithm on the page of all, whatever its name holds."""
    kept = kept_in_names(name)
    return kept if kept == name else f"{kept}-{digest(name)[:8]}"


def algorithm_link(name: str) -> str:
    """Returns the address of an algorithm in a site."""
    return f"algorithms.html#{algorithm_anchor(name)}"


@cache
def _titles() -> dict[str, str]:
    text = (files("pairbench.leaderboard.site") / "titles.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def plain_task(task: str) -> str:
    """Returns what a task is called in words, its name where `titles.json` has none."""
    return _titles().get(task, task)


def plain_title(board: Board) -> str:
    """Returns a board's title, in words where its task has some."""
    rest = board.title.removeprefix(board.task)
    return f"{plain_task(board.task)}{rest}"
