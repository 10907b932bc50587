"""A board in any of its formats, by name."""

from __future__ import annotations

from collections.abc import Callable

from pairbench.errors import PairBenchError
from pairbench.leaderboard import text
from pairbench.leaderboard.build import Board
from pairbench.leaderboard.overall import Overall
from pairbench.leaderboard.site.pages import board_page, overall_page
from pairbench.text import did_you_mean

FORMATS: dict[str, Callable[[Board], str]] = {
    "table": text.as_table,
    "markdown": text.as_markdown,
    "csv": text.as_csv,
    "json": text.as_json,
    "latex": text.as_latex,
    "html": board_page,
}

OVERALL_FORMATS: dict[str, Callable[[Overall], str]] = {
    "table": text.overall_as_table,
    "markdown": text.overall_as_markdown,
    "csv": text.overall_as_csv,
    "json": text.as_json,
    "latex": text.overall_as_latex,
    "html": overall_page,
}


def render(board: Board | Overall, format: str = "table") -> str:
    """Returns a board as text in one of `FORMATS`, ending in a newline.

    Raises:
        PairBenchError: if the format is unknown.
    """
    if format not in FORMATS:
        raise PairBenchError(
            f"no format {format!r} for a leaderboard{did_you_mean(format, FORMATS)}"
        )
    return OVERALL_FORMATS[format](board) if isinstance(board, Overall) else FORMATS[format](board)
