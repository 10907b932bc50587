"""The page of all algorithms: what each one's file says of it, its settings, and its rows.

An algorithm's words come from its class, which is ground for every folder; nothing here
trains or evaluates.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import Board
from pairbench.leaderboard.site.names import algorithm_anchor
from pairbench.leaderboard.site.pages import filled
from pairbench.leaderboard.text import cell
from pairbench.registry import get_algorithm


def algorithms_page(boards: Sequence[Board], stems: Sequence[str]) -> str:
    """Returns the page of each algorithm that has a row, one section each."""
    rows = defaultdict(list)
    for stem, board in zip(stems, boards, strict=True):
        for row in board.rows:
            rows[row.algorithm].append(
                {"stem": stem, "board": board, "it": row, "reward": cell(row.reward)}
            )
    algorithms = [
        {"name": name, "anchor": algorithm_anchor(name), "rows": found, **_described(name)}
        for name, found in sorted(rows.items())
    ]
    return filled("algorithms", algorithms=algorithms)


def _described(name: str) -> dict[str, Any]:
    """Returns what an algorithm's own file says of it, or why it cannot be had here."""
    try:
        cls = get_algorithm(name)
    except PairBenchError as error:
        lists: dict[str, Any] = {key: [] for key in ("about", "parts", "kinds", "settings")}
        return {"missing": str(error), "source": "", "departures": "", "where": "", **lists}
    kinds = list(cls.presets)
    return {
        "missing": None,
        "source": cls.source,
        "departures": cls.departures,
        "where": f"{cls.__module__}:{cls.__qualname__}",
        "about": _paragraphs(inspect.getdoc(cls) or ""),
        "parts": [
            (part, _marked(" ".join(str(value.__doc__).split())))
            for part, value in vars(cls).items()
            if inspect.isfunction(value) and value.__doc__ and not part.startswith("_")
        ],
        "kinds": kinds,
        "settings": [
            {
                "name": setting,
                "meaning": field.description or "",
                "default": "required" if field.is_required() else json.dumps(field.default),
                "presets": [
                    json.dumps(cls.presets[kind][setting]) if setting in cls.presets[kind] else ""
                    for kind in kinds
                ],
            }
            for setting, field in cls.Config.model_fields.items()
        ],
    }


def _paragraphs(text: str) -> list[Markup]:
    return [_marked(part) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _marked(text: str) -> Markup:
    """Text of a docstring, what stands between back quotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
