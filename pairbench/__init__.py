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
    from pairbench.experiments.runner import run
    from pairbench.experiments.tuning.search import tune
    from pairbench.leaderboard.compare import compare
    from pairbench.results.load import load_records
    from pairbench.results.query import query

__all__ = ["compare", "leaderboard", "load_records", "query", "run", "tune"]

_HOMES = {
    "compare": "pairbench.leaderboard",
    "load_records": "pairbench.results.load",
    "query": "pairbench.results.query",
    "run": "pairbench.experiments.runner",
    "tune": "pairbench.experiments.tuning.search",
}


def __getattr__(name: str) -> Any:
    if name == "leaderboard":
        return import_module("pairbench.leaderboard")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pairbench' has no attribute {name!r}")
