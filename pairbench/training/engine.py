"""Engines: training loops that call the loss of an algorithm in the place of the built-in one.

`Protocol.engine` says whose loop trains a board's algorithms. "pairbench" is the built-in loop,
`pairbench.training.loop`; any other name is that of an `Engine`. One that PairBench brings is
registered by a file `engine.py`, one of another package by the entry-point group
"pairbench.engines" (name = "module:Class"). Nothing here knows any of them by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pairbench.algorithm import Algorithm, Method
from pairbench.errors import PairBenchError
from pairbench.registry import entries, load
from pairbench.text import did_you_mean
from pairbench.training.run import Run

BUILT_IN_LOOP = "pairbench"
"""The engine that is none: our own loop."""


class Engine(ABC):
    """Another's training loop around an algorithm of ours: it trains, PairBench evaluates.

    Like a library's own trainer it saves no checkpoint, and takes no probes.

    Class attributes:
        name: set by `register_engine`.
        limit: the limit of the budget (a field of `Budget`) that it cannot do without.
        packages: distributions its numbers depend on, whose versions each record then holds.
    """

    name: ClassVar[str]
    limit: ClassVar[str] = "steps"
    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm

    @classmethod
    @abstractmethod
    def refusal(cls, method: Method, kind: str) -> str | None:
        """Returns one sentence on why it cannot run a method on tasks of a kind, or None."""

    @abstractmethod
    def fit(self, run: Run) -> None:
        """Trains `run.policy` to the end of the budget; see `External.fit`."""


def get_engine(name: str) -> type[Engine] | None:
    """Returns the engine called `name`, or None for the built-in loop.

    Raises:
        PairBenchError: there is none (with the nearest names), or it cannot be imported.
    """
    if name == BUILT_IN_LOOP:
        return None
    known = [BUILT_IN_LOOP, *entries("engine")]
    if name not in known:
        raise PairBenchError(f"there is no engine {name!r}{did_you_mean(name, known)}")
    engine = load("engine", name)
    if not (isinstance(engine, type) and issubclass(engine, Engine)):
        raise PairBenchError(f"engine {name!r} is {engine!r}, which is no pairbench Engine class")
    return engine
