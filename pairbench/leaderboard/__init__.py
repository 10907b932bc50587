"""Leaderboards, their pages and comparisons of rows: a pure function of run records."""

import sys
from pathlib import Path
from types import ModuleType

from pairbench.leaderboard.build import Board, build
from pairbench.leaderboard.compare import Comparison, compare, compare_all
from pairbench.leaderboard.formats import FORMATS, render
from pairbench.leaderboard.overall import Overall, overall
from pairbench.leaderboard.rows import Row
from pairbench.leaderboard.site.site import write_site
from pairbench.results.load import load_records
from pairbench.results.marks import marks

__all__ = [
    "FORMATS",
    "Board",
    "Comparison",
    "Overall",
    "Row",
    "build",
    "compare",
    "compare_all",
    "overall",
    "render",
    "write_site",
]


class _Verb(ModuleType):
    """This module, which is also the Python form of the verb `pairbench leaderboard`."""

    def __call__(
        self,
        results: Path | str = "results",
        task: str | None = None,
        format: str | None = None,
    ) -> list[Board] | str:
        """Returns the boards of a results folder, or with `format` their text, one after another.

        Args:
            results: the folder.
            task: boards of this task only.
            format: one of `FORMATS`, or None for `Board` objects.
        """
        place = Path(results)
        boards = build(load_records(place).records, task, marks=marks(place))
        return boards if format is None else "\n".join(render(board, format) for board in boards)


sys.modules[__name__].__class__ = _Verb
