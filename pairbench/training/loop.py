"""The training loop: collect, prepare, update, measure; for any method and task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.batch import Batch, Signal, minibatches
from pairbench.errors import Interrupted, PairBenchError
from pairbench.evaluation import Cost
from pairbench.policy import view
from pairbench.results.files import set_aside
from pairbench.results.read import Joined
from pairbench.results.record import CurvePoint
from pairbench.text import error_line
from pairbench.training.checkpoint import load_state, save_state
from pairbench.training.noise import probe_if_due
from pairbench.training.optimiser import Adam, Group
from pairbench.training.run import Run
from pairbench.training.series import SERIES, measure
from pairbench.training.steps import as_trained

IDLE_ITERATIONS = 100  # without any use of the budget before a run is given up


class Loop:
    """The built-in training loop over a `Run`; its state is what a checkpoint holds."""

    def __init__(
        self,
        run: Run,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        origin: Mapping[str, Any] = MappingProxyType({}),
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run, self.origin, self.stopping = run, dict(origin), stopping
        assert isinstance(run.algorithm, Algorithm)
        self.algorithm, self.session, self.policy = run.algorithm, run.session, run.policy
        self.config = run.algorithm.config
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self._saved = time.perf_counter()
        rates = {"policy": self.config.lr, "critic": self.config.critic_lr}
        groups = [Group(group.tensors, rates[group.role]) for group in self.policy.parameters()]
        self.optimiser = Adam(groups, run.spec.protocol.adam_eps)

    def execute(self, iterations: int | None = None) -> bool:
        """Trains until the budget is spent; returns False if it stopped after `iterations`."""
        self.restore()
        run = self.run
        while True:
            with run.doing("probe"):
                probe_if_due(run, self.algorithm)
            if run.spent():
                return True
            if iterations is not None and run.cost.iterations >= iterations:
                return False
            if run.cost.iterations >= IDLE_ITERATIONS and not run.share():
                raise PairBenchError(
                    f"{IDLE_ITERATIONS} iterations spent nothing of the budget, which would never "
                    "end: limit something the run uses, such as steps"
                )
            with run.doing("save"):
                self.save_if_due()
            self.iterate()

    def iterate(self) -> None:
        """One iteration: collect, prepare, update, measure."""
        run, number = self.run, self.run.cost.iterations
        progress = run.progress()
        with torch.no_grad(), run.doing("collect"):
            batch = self.session.collect(number)
            chosen, signal = self.algorithm.study(batch, progress, number)
        factor = 1.0 - progress if run.spec.protocol.anneal else 1.0
        with run.doing("update"):
            sums, count = self.update(chosen, signal, factor)
        run.cost.gradient_steps += count
        run.cost.iterations += 1
        with run.doing("measure"):
            means = {name: float(total) / count for name, total in sums.items()}
            run.series.append(measure(run, batch, signal, means, self.config.lr * factor))

    def update(self, batch: Batch, signal: Signal, factor: float) -> tuple[dict[str, Tensor], int]:
        """Takes an iteration's gradient steps; returns summed diagnostics and their number."""
        rows, signal = as_trained(self.algorithm.needs, self.policy.stepwise, batch, signal)
        generator = self.run.streams["minibatch"]
        sums: dict[str, Tensor] = {}
        count = 0
        for _ in range(self.config.epochs):
            for part, part_signal in minibatches(rows, signal, self.config.minibatches, generator):
                loss = self.algorithm.loss(view(self.policy, part), part, part_signal)
                self.optimiser.zero_grad()
                loss.value.backward()  # type: ignore[no-untyped-call]
                norm = self.optimiser.step(self.config.max_grad_norm, factor)
                count += 1
                _add(sums, "loss", loss.value.detach())
                _add(sums, "grad_norm", norm)
                for name, value in loss.diagnostics.items():
                    _add(sums, name, value)
        return sums, count

    def save_if_due(self) -> None:
        """Saves the state now and then; if the run is to stop, now, and raises `Interrupted`."""
        stopping = self.stopping()
        due = stopping or time.perf_counter() - self._saved >= self.checkpoint_seconds
        if self.checkpoint is not None and self.run.cost.iterations and due:
            try:
                save_state(self.checkpoint, self.state())
            except OSError as error:  # the last one stands, and there may be room by the next
                self.run.warn(f"the checkpoint cannot be saved ({error.strerror or error})")
            self._saved = time.perf_counter()
        if stopping:
            raise Interrupted

    def state(self) -> dict[str, Any]:
        """Returns everything the rest of the run depends on."""
        run = self.run
        return {
            "identity": run.spec.identity,
            "origin": self.origin,
            "policy": self.policy.state(),
            "optimiser": self.optimiser.state(),
            "task": self.session.state(),
            "streams": run.streams.state(),
            "cost": run.cost.model_dump(),
            "seconds": run.seconds,
            "curve": [point.model_dump() for point in run.curve],
            "series": np.array(run.series, dtype=np.float64).reshape(-1, len(SERIES)),
            "noise": [list(pair) for pair in run.noise],
        }

    def restore(self) -> None:
        """Continues from the checkpoint if there is a usable one of this very run and code."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            state = load_state(self.checkpoint)
        except ValueError:
            state = {}
        if (state.get("identity"), state.get("origin")) != (self.run.spec.identity, self.origin):
            aside = set_aside(self.checkpoint)
            self.run.warn(
                f"the checkpoint was set aside as {aside.name}, and the run begins anew: "
                f"{self._other(state)}"
            )
            return
        try:
            self._fill(state)
        except Exception as error:  # a stranger's may be of this run by name, and hold anything
            aside = set_aside(self.checkpoint)
            raise PairBenchError(
                f"the checkpoint holds no state of this run ({error_line(error)}) and was set "
                f"aside as {aside.name}: the same command begins the run anew"
            ) from error

    def _fill(self, state: Mapping[str, Any]) -> None:
        run = self.run
        self.policy.load_state(state["policy"])
        self.optimiser.load_state(state["optimiser"])
        run.streams.load_state(state["streams"])
        self.session.load_state(state["task"])
        self.session.cost = Cost(**state["cost"])
        run.seconds_before = float(state["seconds"])
        run.curve = [CurvePoint(**point) for point in state["curve"]]
        run.series = state["series"].reshape(-1, len(SERIES)).tolist()
        run.noise = [(pair[0], pair[1]) for pair in state["noise"]]

    def _other(self, state: Mapping[str, Any]) -> str:
        """Says why a checkpoint's state is none to go on from."""
        origin = state.get("origin")
        if state.get("identity") != self.run.spec.identity or not isinstance(origin, Mapping):
            return "it is none of this run"
        changes = Joined().changed(origin.get("read") or {}, self.origin.get("read", {}))
        return (
            "; ".join(changes.values())
            or "it was saved under other versions, or on another machine"
        )


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    if name in sums:
        sums[name] += value
    else:
        sums[name] = value.clone()
