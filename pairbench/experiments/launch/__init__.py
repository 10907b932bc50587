"""Where runs happen: this machine, or a cluster through Ray or Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pairbench.errors import PairBenchError

if TYPE_CHECKING:
    from pairbench.experiments.launch.base import Execution, Launcher

BACKENDS = ("local", "ray", "slurm")
"""The launcher of each backend, by name."""


def open_launcher(execution: Execution) -> Launcher:
    """Returns the launcher of an execution's backend, for its number of runs at a time.

    Raises:
        PairBenchError: no such backend or option, or the package it needs is missing.
    """
    backend, workers, options = execution.backend, execution.workers or 1, execution.options
    if backend == "ray":
        from pairbench.experiments.launch.ray import Ray

        return Ray(workers, options)
    if backend == "slurm":
        from pairbench.experiments.launch.slurm import Slurm

        return Slurm(workers, options)
    if backend != "local":
        raise PairBenchError(f"there is no backend {backend!r}: choose {', '.join(BACKENDS)}")
    if options:
        raise PairBenchError(f"the backend local has no option {min(options)!r}: leave it out")
    from pairbench.experiments.launch.local import Local

    return Local(workers)
