"""`train`: one run from its specification to its record, by whichever loop trains it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pairbench.algorithm import Algorithm, External, Floor, Method
from pairbench.errors import DivergedError, PairBenchError
from pairbench.evaluation import Cost
from pairbench.places import named
from pairbench.policy import Policy
from pairbench.registry import get_algorithm, get_task
from pairbench.results.record import Failure, RunRecord, RunSpec, Stability
from pairbench.seeding import Streams
from pairbench.task import Session, Task
from pairbench.training.checkpoint import weights_sha256
from pairbench.training.engine import Engine, get_engine
from pairbench.training.loop import Loop
from pairbench.training.provenance import code_version, provenance
from pairbench.training.run import Progress, Run, RunResult
from pairbench.training.series import SERIES, stability
from pairbench.training.sources import sources


def train(
    spec: RunSpec,
    *,
    threads: int = 1,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    on_progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] = lambda text: None,
    iterations: int | None = None,
    algorithm: type[Method] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Runs `spec` to the end of its budget, from its checkpoint if there is one.

    A run that is killed and started again with the same checkpoint path ends bit for bit as if it
    had not been. An error inside the run becomes a record of status "failed".

    Args:
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
    engine = get_engine(spec.protocol.engine)
    trainer: External | Engine | None = method if isinstance(method, External) else None
    if engine is not None and isinstance(method, Algorithm):
        trainer = engine(method)
    parts: list[type[Method] | type[Task] | type[Engine]] = [algorithm_class, task_class]
    parts += [engine] if engine is not None else []
    origin, read = provenance(threads, *parts), sources(*parts)
    run: Run | None = None
    began = time.perf_counter()
    failure = None
    whole = True
    try:
        streams = Streams(spec.seed)
        session = task.begin(method, streams, threads)
        if isinstance(method, Floor) and method.policy != "reference":
            session.policy = _known_policy(method, task, session)
        read |= task.read(method.needs)
        run = Run(spec, method, task, session, streams, on_progress, warn)
        run.spent_on["start"] = time.perf_counter() - began
        if trainer is not None:
            with run.doing("fit"):
                trainer.fit(run)
        elif isinstance(method, Algorithm):
            code = code_version(origin, read)
            loop = Loop(run, checkpoint, checkpoint_seconds, code, stopping)
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
    if failure:
        failure = failure.model_copy(update={"message": named(failure.message)})
    record = RunRecord(
        identity=spec.identity,
        **spec.model_dump(),
        status="failed" if failure else "finished" if whole else "skipped",
        reason=failure.message if failure else None if whole else "stopped early, as asked",
        failure=failure,
        regime=method.regime,
        step_unit=task.unit,
        scores_of=task.scores_of,
        measures=task.measures if failure else task.declared(),
        curve=run.curve if run else [],
        evaluation=run.evaluation if run and whole and not failure else None,
        stability=stability(run) if run and not failure else Stability(),
        cost=run.cost.model_copy(update={"seconds": round(run.seconds, 3)}) if run else Cost(),
        weights_sha256=weights_sha256(run.policy.state()) if run and not failure else None,
        read=read,
        provenance={**origin, "task": task.provenance(method.needs)},
    )
    rows = np.array(run.series if run else [], dtype=np.float32).reshape(-1, len(SERIES))
    series = {name: rows[:, index] for index, name in enumerate(SERIES)}
    texts = run.session.texts() if run and record.evaluation else {}
    return RunResult(record, series, texts, run.spent_on if run else {})


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch's allocator on the CPU says so in words alone."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


def _known_policy(method: Floor, task: Task, session: Session) -> Policy:
    random = method.policy == "random"
    policy = task.random_policy() if random else session.known_policy(method)
    if policy is None:
        raise PairBenchError(f"{task.name} has no {method.policy} policy")
    return policy
