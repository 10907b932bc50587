"""The loop of one run: collect, prepare, update, evaluate, checkpoint; for any method and task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairbench.algorithm import Algorithm, External
from pairbench.batch import Batch, Signal, flatten_signal, minibatches
from pairbench.errors import DivergedError, Interrupted, PairBenchError
from pairbench.evaluation import Cost, Evaluation
from pairbench.policy import Policy, view
from pairbench.registry import get_algorithm, get_task
from pairbench.results.files import set_aside
from pairbench.results.record import (
    Budget,
    CurvePoint,
    Failure,
    Protocol,
    RunRecord,
    RunSpec,
    Stability,
)
from pairbench.seeding import Streams
from pairbench.task import Task
from pairbench.training.checkpoint import load_state, save_state, weights_sha256
from pairbench.training.optimiser import Adam, Group
from pairbench.training.provenance import code_version, provenance

PROBE_UNITS = 256  # groups per measurement of gradient noise: fewer estimate nothing (pilots)
IDLE_ITERATIONS = 100  # without any use of the budget before a run is given up
PROBE_STEPS = 32  # steps that count as one unit where responses are not grouped

SERIES = (
    "steps",
    "loss",
    "grad_norm",
    "kl_old",
    "kl_ref",
    "clip_fraction",
    "entropy",
    "advantage_variance",
    "explained_variance",
    "score",
    "lr",
)
"""Columns kept per iteration. Divergences and entropy are nats per step, after the update."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: share of the budget spent, iteration, last evaluated reward, seconds."""

    spent: float
    iteration: int
    reward: float | None
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """A record, its series, and the texts of its last evaluation.

    Series and texts are columns of equal length: one value per iteration, or per held-out context.
    `spent_on` has the seconds of this process by what they went into, see `Run.doing`.
    """

    record: RunRecord
    series: dict[str, np.ndarray]
    texts: dict[str, list[str]] = field(default_factory=dict)
    spent_on: dict[str, float] = field(default_factory=dict)


@dataclass
class Run:
    """One run in progress: what the loop, and a library's own trainer, work on."""

    spec: RunSpec
    algorithm: Algorithm
    task: Task
    policy: Policy
    streams: Streams
    on_progress: Callable[[Progress], None] | None = None
    warn: Callable[[str], None] = lambda text: None
    spent_on: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.curve: list[CurvePoint] = []
        self.series: list[list[float]] = []
        self.noise: list[tuple[float, float]] = []
        self.evaluation: Evaluation | None = None
        self.seconds_before = 0.0
        self._began = time.perf_counter()
        self._reported = 0.0

    @property
    def cost(self) -> Cost:
        return self.task.cost

    @property
    def budget(self) -> Budget:
        return self.spec.protocol.budget

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of this run, those before an interruption included."""
        return self.seconds_before + time.perf_counter() - self._began

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Counts the seconds of what is done inside under a name."""
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            self.spent_on[what] = self.spent_on.get(what, 0.0) + passed

    def progress(self) -> float:
        """Share of the repeatable limits (all but seconds) already spent, at most 1."""
        limits = {
            "steps": self.cost.steps,
            "labels": self.cost.labels,
            "gradient_steps": self.cost.gradient_steps,
        }
        shares = [
            used / limit for name, used in limits.items() if (limit := getattr(self.budget, name))
        ]
        return min(1.0, max(shares, default=0.0))

    def share(self) -> float:
        """Share of the budget already spent, whichever limit is nearest, at most 1."""
        if self.budget.seconds is None:
            return self.progress()
        return min(1.0, max(self.progress(), self.seconds / self.budget.seconds))

    def report(self, force: bool = False) -> None:
        """Tells the caller how far the run is, at most twice a second."""
        now = time.perf_counter()
        if self.on_progress is None or (now - self._reported < 0.5 and not force):
            return
        self._reported = now
        reward = self.curve[-1].reward if self.curve else None
        self.on_progress(Progress(self.share(), self.cost.iterations, reward, self.seconds))

    def spent(self) -> bool:
        """Evaluates if a point of the curve is due; returns whether the budget is spent."""
        share = self.share()
        if share < 1.0 and share * self.spec.protocol.evaluations >= len(self.curve) + 1:
            self.evaluate(final=False)
        self.report()
        return share >= 1.0

    def evaluate(self, final: bool) -> None:
        """Adds a point to the learning curve; the final evaluation is the run's result."""
        with torch.no_grad(), self.doing("evaluate"):
            self.evaluation = self.task.evaluate(self.policy, final)
        self.curve.append(
            CurvePoint(
                steps=self.cost.steps,
                labels=self.cost.labels,
                gradient_steps=self.cost.gradient_steps,
                reward=self.evaluation.reward,
                means={name: sum(s) / len(s) for name, s in self.evaluation.scores.items()},
                measures=self.evaluation.measures,
            )
        )


def train(
    spec: RunSpec,
    *,
    threads: int = 1,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    on_progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] = lambda text: None,
    iterations: int | None = None,
    algorithm: type[Algorithm] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Runs `spec` to the end of its budget, from its checkpoint if there is one.

    A run that is killed and started again with the same checkpoint path ends bit for bit as if it
    had not been. An error inside the run becomes a record of status "failed".

    Args:
        spec: what to run.
        threads: threads of the simulator; torch and BLAS keep the number they were given.
        checkpoint: file to resume from and to save to, or None.
        checkpoint_seconds: least time between two saves.
        on_progress: called about twice a second.
        warn: called with what should be known and stops nothing.
        iterations: stop after so many, which gives a record of status "skipped" with the series so
            far; None runs to the end. A library's own trainer always runs to the end.
        algorithm: class to run in place of the registered one, which need not exist then.
        stopping: asked after each iteration; when it is true, the run saves its state and ends. A
            library's own trainer is not asked.

    Raises:
        PairBenchError: the specification names something that does not exist.
        Interrupted: `stopping` said so.
    """
    algorithm_class, task_class = algorithm or get_algorithm(spec.algorithm), get_task(spec.task)
    method = algorithm_class(algorithm_class.Config(**spec.algorithm_config))
    task = task_class(task_class.Config(**spec.task_config))
    if task.version != spec.task_version:
        raise PairBenchError(
            f"{spec.task} is at version {task.version} here, the run asks for {spec.task_version}: "
            "use the release of PairBench that has it"
        )
    external = _external(method, spec.protocol)
    brought = () if external is None else (type(external),)
    origin = provenance(threads, algorithm_class, task_class, *brought)
    run: Run | None = None
    began = time.perf_counter()
    failure = None
    whole = True
    try:
        streams = Streams(spec.seed)
        policy = task.start(method, streams, threads)
        if method.floor == "random":
            policy = _random_policy(task)
        run = Run(spec, method, task, policy, streams, on_progress, warn)
        run.spent_on["start"] = time.perf_counter() - began
        if external is not None:
            with run.doing("fit"):
                external.fit(run)
        elif method.needs.data != "nothing":
            loop = _Loop(run, checkpoint, checkpoint_seconds, code_version(origin), stopping)
            whole = loop.execute(iterations)
        if whole:
            run.evaluate(final=True)
        run.report(force=True)
    except DivergedError as error:
        failure = Failure(kind="DivergedError", message=str(error), iteration=error.iteration)
    except Exception as error:  # noqa: BLE001 (whatever a run raises must not stop the others)
        at = run.cost.iterations if run else None
        kind, message = type(error).__name__, str(error)
        if _out_of_memory(error):
            kind = "OutOfMemory"
            message = (
                f"out of memory ({message.strip().splitlines()[0] if message.strip() else kind}): "
                "lower contexts, group_size or --workers, or the task's rows at a time"
            )
        failure = Failure(kind=kind, message=message, iteration=at)
    record = RunRecord(
        identity=spec.identity,
        **spec.model_dump(),
        status="failed" if failure else "finished" if whole else "skipped",
        reason=failure.message if failure else None if whole else "stopped early, as asked",
        failure=failure,
        regime=method.regime,
        step_unit=task.unit,
        scores_of=task.scores_of,
        curve=run.curve if run else [],
        evaluation=run.evaluation if run and whole and not failure else None,
        stability=_stability(run) if run and not failure else Stability(),
        cost=task.cost.model_copy(update={"seconds": round(run.seconds, 3) if run else 0.0}),
        weights_sha256=weights_sha256(run.policy.state()) if run and not failure else None,
        provenance={**origin, "task": task.provenance()},
    )
    rows = np.array(run.series if run else [], dtype=np.float32).reshape(-1, len(SERIES))
    series = {name: rows[:, index] for index, name in enumerate(SERIES)}
    texts = task.texts() if record.evaluation else {}
    return RunResult(record, series, texts, run.spent_on if run else {})


def _external(method: Algorithm, protocol: Protocol) -> External | None:
    """Returns what trains in place of our own loop, or None."""
    if protocol.engine == "trl" and method.needs.data != "nothing":
        from pairbench.language.trl.rows import Hosted

        return Hosted(method)
    return method if isinstance(method, External) else None


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch's allocator on the CPU says so in words alone."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


def _random_policy(task: Task) -> Policy:
    policy = task.random_policy()
    if policy is None:
        raise PairBenchError(f"{task.name} has no random policy")
    return policy


class _Loop:
    """Our own training loop over a `Run`; its state is what a checkpoint holds."""

    def __init__(
        self,
        run: Run,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        origin: str = "",
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run, self.origin, self.stopping = run, origin, stopping
        self.algorithm, self.task, self.policy = run.algorithm, run.task, run.policy
        self.config = run.algorithm.config
        self.by_steps = self.algorithm.needs.data == "steps" and self.policy.stepwise
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self._saved = time.perf_counter()
        rates = {"policy": self.config.lr, "critic": self.config.critic_lr}
        self.optimiser = Adam(
            [Group(group.tensors, rates[group.role]) for group in self.policy.parameters()]
        )

    def execute(self, iterations: int | None = None) -> bool:
        """Trains until the budget is spent; returns False if it stopped after `iterations`."""
        self.restore()
        run = self.run
        while True:
            with run.doing("probe"):
                self.probe_if_due()
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
            batch = self.task.collect(self.policy, number)
            chosen = self.algorithm.select(batch)
            signal = self.algorithm.prepare(chosen, progress, number)
        factor = 1.0 - progress if run.spec.protocol.anneal else 1.0
        with run.doing("update"):
            sums, count = self.update(chosen, signal, factor)
        run.cost.gradient_steps += count
        run.cost.iterations += 1
        with run.doing("measure"):
            run.series.append(self.measure(batch, signal, sums, count, factor))

    def update(self, batch: Batch, signal: Signal, factor: float) -> tuple[dict[str, Tensor], int]:
        """Takes an iteration's gradient steps; returns summed diagnostics and their number."""
        if self.by_steps:
            signal, batch = flatten_signal(signal, batch.mask), batch.flatten_steps()
        generator = self.run.streams["minibatch"]
        sums: dict[str, Tensor] = {}
        count = 0
        for _ in range(self.config.epochs):
            for part, part_signal in minibatches(batch, signal, self.config.minibatches, generator):
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

    def measure(
        self, batch: Batch, signal: Signal, sums: Mapping[str, Tensor], count: int, factor: float
    ) -> list[float]:
        """Returns the iteration's row of the series; raises if anything stopped being finite."""
        number = self.run.cost.iterations - 1
        for name in ("loss", "grad_norm"):
            if not bool(torch.isfinite(sums[name].float())):
                raise DivergedError(number, "the loss" if name == "loss" else "the gradient")
        with torch.no_grad():
            output = self.policy(batch)
            if not bool(torch.isfinite(output.logp).all()):
                raise DivergedError(number, "the policy's log-probability")
            mask, steps = batch.mask, batch.mask.sum()
            values = {name: float(total) / count for name, total in sums.items()}
            values |= {"steps": self.run.cost.steps, "lr": self.config.lr * factor}
            kl_old = output.kl_old
            if kl_old is None:
                kl_old = _k3(output.logp, batch.old_logp)
            values["kl_old"] = float((kl_old * mask).sum() / steps)
            kl_ref = output.kl_ref
            if kl_ref is None and batch.ref_logp is not None:
                kl_ref = _k3(output.logp, batch.ref_logp)
            if kl_ref is not None:
                values["kl_ref"] = float((kl_ref * mask).sum() / steps)
            if output.entropy is not None:
                values["entropy"] = float((output.entropy * mask).sum() / steps)
            if (advantage := signal.get("advantage")) is not None and advantage.numel() > 1:
                values["advantage_variance"] = float(advantage.var())
            target = signal.get("return")
            if target is not None and batch.value is not None and len(target) == len(batch):
                residual = (target - batch.value)[mask > 0]
                values["explained_variance"] = float(
                    1 - residual.var() / target[mask > 0].var().clamp_min(1e-12)
                )
            if batch.score is not None:
                values["score"] = float(batch.score.mean())
            elif batch.step_reward is not None:
                values["score"] = float((batch.step_reward * mask).sum() / steps)
        return [values.get(name, float("nan")) for name in SERIES]

    def probe_if_due(self) -> None:
        """Measures the gradient's noise at the sampling policy if a probe is due."""
        run, probes = self.run, self.run.spec.protocol.probes
        if len(run.noise) >= probes or run.progress() * probes < len(run.noise):
            return
        number = run.cost.iterations
        units = PROBE_UNITS
        if self.by_steps:  # rows enough for that many blocks of steps
            units = -(-PROBE_UNITS * PROBE_STEPS // self.config.segment)
        with torch.no_grad():
            batch = self.algorithm.select(self.task.probe(self.policy, units, run.streams))
            signal = self.algorithm.prepare(batch, run.progress(), number)
        run.noise.append(self.gradient_noise(batch, signal))

    def gradient_noise(self, batch: Batch, signal: Signal) -> tuple[float, float]:
        """Returns (tr Cov / E|g|^2, |E g|^2 / E|g|^2) of one unit's gradient, both unbiased above.

        A unit is a group, or `PROBE_STEPS` consecutive steps where responses are not grouped. The
        ratio of the two, over the units in an iteration, is the noise of an iteration's gradient.
        """
        size = batch.group_size
        if self.by_steps:
            signal, batch = flatten_signal(signal, batch.mask), batch.flatten_steps()
            size = PROBE_STEPS
        trained = [t for g in self.policy.parameters() if g.role == "policy" for t in g.tensors]
        total = [torch.zeros_like(tensor) for tensor in trained]
        square, units = 0.0, len(batch) // size
        for index in range(units):
            part = batch.narrow(index * size, size)
            rows = {name: tensor.narrow(0, index * size, size) for name, tensor in signal.items()}
            loss = self.algorithm.loss(view(self.policy, part), part, rows)
            gradients = torch.autograd.grad(loss.value, trained, allow_unused=True)
            for place, gradient in zip(total, gradients, strict=True):
                if gradient is not None:
                    place += gradient
                    square += float((gradient.double() ** 2).sum())
        if square == 0.0 or units < 2:
            return 0.0, 0.0
        second = square / units
        mean_square = sum(float((place.double() / units).pow(2).sum()) for place in total)
        covariance = (second - mean_square) * units / (units - 1)
        return covariance / second, (mean_square - covariance / units) / second

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
            "task": self.task.state(),
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
            set_aside(self.checkpoint)
            return
        if (state.get("identity"), state.get("origin")) != (self.run.spec.identity, self.origin):
            set_aside(self.checkpoint)
            return
        run = self.run
        self.policy.load_state(state["policy"])
        self.optimiser.load_state(state["optimiser"])
        run.streams.load_state(state["streams"])
        self.task.load_state(state["task"])
        self.task.cost = Cost(**state["cost"])
        run.seconds_before = state["seconds"]
        run.curve = [CurvePoint(**point) for point in state["curve"]]
        run.series = state["series"].tolist()
        run.noise = [(pair[0], pair[1]) for pair in state["noise"]]


def _k3(logp: Tensor, other: Tensor) -> Tensor:
    """Estimates KL(pi || other) per step from samples of pi (Schulman's k3), nats."""
    log_ratio = other - logp
    return torch.expm1(log_ratio) - log_ratio


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    if name in sums:
        sums[name] += value
    else:
        sums[name] = value.clone()


def _stability(run: Run) -> Stability:
    """Sums the run up: noise over the probes, divergence over iterations, fall of the curve."""
    noise = None
    if run.noise and run.cost.iterations:
        spread, signal = np.mean(np.array(run.noise), axis=0)
        units = _units_per_iteration(run)
        if signal > 0:
            noise = float(spread / signal / units)
    moved = np.array([row[SERIES.index("kl_old")] for row in run.series])
    best, drawdown = -np.inf, 0.0
    for point in run.curve:
        best = max(best, point.reward)
        drawdown = max(drawdown, best - point.reward)
    return Stability(
        gradient_noise=noise,
        kl_std=float(moved.std()) if len(moved) > 1 else None,
        kl_max=float(moved.max()) if len(moved) else None,
        drawdown=drawdown if len(run.curve) > 1 else None,
    )


def _units_per_iteration(run: Run) -> float:
    """Groups per iteration, or blocks of `PROBE_STEPS` steps where responses are not grouped."""
    config = run.algorithm.config
    if run.algorithm.needs.data == "steps" and run.policy.stepwise:
        return run.cost.steps / run.cost.iterations / PROBE_STEPS
    return float(config.contexts)
