"""PairBench: a benchmark of preference-based policy optimisation, one runner for every method.

The verbs of the command line are here too, imported on first use: `pairbench.run`,
`pairbench.tune`, `pairbench.load_records`, `pairbench.query`, `pairbench.compare`, and
`pairbench.leaderboard`, which returns the boards of a results folder and is also the module that
builds and renders them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairbench import leaderboard
    from pairbench.leaderboard.compare import compare
    from pairbench.runner import run
    from pairbench.store import load_records, query
    from pairbench.tuning import tune

__all__ = ["compare", "leaderboard", "load_records", "query", "run", "tune"]

_HOMES = {
    "compare": "pairbench.leaderboard",
    "load_records": "pairbench.store",
    "query": "pairbench.store",
    "run": "pairbench.runner",
    "tune": "pairbench.tuning",
}


def __getattr__(name: str) -> Any:
    if name == "leaderboard":
        return import_module("pairbench.leaderboard")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pairbench' has no attribute {name!r}")
