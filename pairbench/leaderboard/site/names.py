"""Where a site keeps its pages."""

from __future__ import annotations

from collections.abc import Sequence

from pairbench.leaderboard.build import Board, kept_in_names
from pairbench.results.record import digest

OVERALL = "overall"
SITE_FORMATS = {"md": "markdown", "csv": "csv", "json": "json", "html": "html"}


def slugs(boards: Sequence[Board]) -> list[str]:
    """Returns a distinct file stem per board: task and budget, with a digest where those agree."""
    stems = [board.slug for board in boards]
    lowered = [stem.lower() for stem in stems]
    return [
        stem if lowered.count(stem.lower()) == 1 else f"{stem}--{board.board[:8]}"
        for stem, board in zip(stems, boards, strict=True)
    ]


def run_file(identity: str) -> str:
    """Returns where a site keeps the page of a run."""
    return f"runs/{identity[:16]}.html"


def algorithm_file(name: str) -> str:
    """Returns where a site keeps the page of an algorithm, whatever its name holds."""
    kept = kept_in_names(name)
    return (
        f"algorithms/{kept}.html"
        if kept == name.lower()
        else f"algorithms/{kept}-{digest(name)[:8]}.html"
    )
