"""PairBench: a benchmark of preference-based policy optimisation, one runner for every method.

Here stand the words that a method or a task is written in (`from pairbench import Algorithm,
Batch, ...`, the modules `objectives` and `shared` among them), and the verbs of the command line:
`run`, `tune`, `compare`, `leaderboard`, `load_records`, `query`, `reproduce`.
`pairbench.leaderboard` returns the boards of a results folder and is also the package that builds
and renders them.

Each is imported on first use, so that `import pairbench` loads nothing else.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import Field

    from pairbench import leaderboard, objectives, shared
    from pairbench.algorithm import (
        Algorithm,
        AlgorithmConfig,
        External,
        Floor,
        GroupConfig,
        Loss,
        Method,
        Needs,
        Presets,
    )
    from pairbench.batch import Batch, Signal, pick
    from pairbench.errors import DivergedError, PairBenchError
    from pairbench.evaluation import Cost, Evaluation, Guard, Measure
    from pairbench.experiments.own import prompts
    from pairbench.experiments.reproduce import reproduce
    from pairbench.experiments.runner import run
    from pairbench.experiments.tuning.search import tune
    from pairbench.leaderboard.compare import compare
    from pairbench.policy import ParameterGroup, Policy, PolicyOutput
    from pairbench.registry import register_algorithm, register_engine, register_task
    from pairbench.results.load import load_records
    from pairbench.results.query import query
    from pairbench.seeding import Streams
    from pairbench.space import Spaces, choice, integers, log_uniform, uniform
    from pairbench.task import Draws, Session, Task, TaskConfig, TunableConfig
    from pairbench.teacher import Teacher, TeacherConfig
    from pairbench.training.engine import Engine

    __version__: str

__all__ = [
    "Algorithm",
    "AlgorithmConfig",
    "Batch",
    "Cost",
    "DivergedError",
    "Draws",
    "Engine",
    "Evaluation",
    "External",
    "Field",
    "Floor",
    "GroupConfig",
    "Guard",
    "Loss",
    "Measure",
    "Method",
    "Needs",
    "PairBenchError",
    "ParameterGroup",
    "Policy",
    "PolicyOutput",
    "Presets",
    "Session",
    "Signal",
    "Spaces",
    "Streams",
    "Task",
    "TaskConfig",
    "Teacher",
    "TeacherConfig",
    "TunableConfig",
    "__version__",
    "choice",
    "compare",
    "integers",
    "leaderboard",
    "load_records",
    "log_uniform",
    "objectives",
    "pick",
    "prompts",
    "query",
    "register_algorithm",
    "register_engine",
    "register_task",
    "reproduce",
    "run",
    "shared",
    "tune",
    "uniform",
]

_HOMES = {
    "pairbench.algorithm": (
        "Algorithm AlgorithmConfig External Floor GroupConfig Loss Method Needs Presets"
    ),
    "pairbench.batch": "Batch Signal pick",
    "pairbench.errors": "DivergedError PairBenchError",
    "pairbench.evaluation": "Cost Evaluation Guard Measure",
    "pairbench.experiments.own": "prompts",
    "pairbench.experiments.reproduce": "reproduce",
    "pairbench.experiments.runner": "run",
    "pairbench.experiments.tuning.search": "tune",
    "pairbench.leaderboard.compare": "compare",
    "pairbench.policy": "ParameterGroup Policy PolicyOutput",
    "pairbench.registry": "register_algorithm register_engine register_task",
    "pairbench.results.load": "load_records",
    "pairbench.results.query": "query",
    "pairbench.seeding": "Streams",
    "pairbench.space": "Spaces choice integers log_uniform uniform",
    "pairbench.task": "Draws Session Task TaskConfig TunableConfig",
    "pairbench.teacher": "Teacher TeacherConfig",
    "pairbench.training.engine": "Engine",
    "pydantic": "Field",
}

_MODULES = ("leaderboard", "objectives", "shared")

_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # so that a name which is not there is an error to a type checker too

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"pairbench.{name}")
        if name == "__version__":
            return version("pairbench")
        if name in _HOME:
            return getattr(import_module(_HOME[name]), name)
        raise AttributeError(f"module 'pairbench' has no attribute {name!r}")
