"""Adds seeds to two rows until the stopping rule decides between them, or there are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.experiments.runner import run
from pairbench.experiments.suite import Suite, plan
from pairbench.results.record import RunRecord
from pairbench.statistics.stopping import PEEK, PEEKED
from pairbench.text import did_you_mean, number


@dataclass(frozen=True)
class Decision:
    """Where two rows stand on a task after the last look.

    Attributes:
        difference: a's interquartile mean less b's, over the seeds that both have.
        p_value: the swap test's.
        decided: whether the look passed the rule that keeps all looks together at 5%.
    """

    task: str
    a: str
    b: str
    seeds: int
    difference: float
    p_value: float
    decided: bool

    def said(self) -> str:
        """Returns it in a sentence."""
        look = (
            f"{self.seeds} shared seeds, difference of interquartile means "
            f"{number(self.difference)}, swap p = {self.p_value:.2g}, where a look needs {PEEK:g} "
            f"and an interval of {1 - PEEK:.1%} without zero so that all err in 5% at most"
        )
        if not self.decided:
            return f"{self.task}: {self.a} and {self.b} are undecided ({look})."
        verb = "above" if self.difference > 0 else "below"
        return f"{self.task}: {self.a} is {verb} {self.b} ({look})."


def run_until_decided(
    suite: str | Suite | None = None,
    *,
    decide: Sequence[str],
    max_seeds: int = PEEKED,
    algorithms: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: str | Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    at_once: int = 1,
    **rest: Any,
) -> tuple[list[RunRecord], list[Decision]]:
    """Runs as `run` does, then seeds more of two rows on each task that has not decided them.

    Looks after every `at_once` new seeds (fewer looks err less), on each task for itself: a suite
    of several tasks errs in 5% on each.

    Args:
        decide: the two rows.
        max_seeds: seeds of a row at which to stop.
        at_once: seeds to add between two looks.
        rest: as `run` takes it, as are the others.

    Raises:
        PairBenchError: not two rows of the suite are named, more seeds are asked for than the rule
            was simulated for, or as `run`.
    """
    named = tuple(dict.fromkeys(decide))
    if len(named) != 2:
        raise PairBenchError("name the two rows to decide between, as in --decide A,B")
    if max_seeds > PEEKED:
        raise PairBenchError(
            f"--max-seeds is at most {PEEKED}, to which the stopping rule was simulated"
        )
    planned = plan(
        suite,
        algorithms=algorithms,
        tasks=tasks,
        seeds=seeds,
        overrides=overrides,
        budget=rest.get("budget"),
        protocol=rest.get("protocol"),
    )
    known = {spec.row for spec in planned.specs}
    for name in named:
        if name not in known:
            raise PairBenchError(f"no row {name!r} in this run{did_you_mean(name, known)}")
    rest["overrides"] = overrides
    records = run(suite, algorithms=algorithms, tasks=tasks, seeds=seeds, **rest)
    found = []
    for task in dict.fromkeys(record.task for record in records if record.row in named):
        own = [r for r in records if r.task == task and r.row in named and r.status != "skipped"]
        while (one := _look(own, *named)) is None or not one.decided:
            used = {record.seed for record in own}
            more = range(max(used) + 1, max(used) + 1 + min(at_once, max_seeds - len(used)))
            if not own or not more:
                break
            new = run(suite, algorithms=named, tasks=[task], seeds=list(more), **rest)
            own += [record for record in new if record.row in named]
            records += new
        if one is not None:
            found.append(one)
    return records, found


def _look(records: Sequence[RunRecord], a: str, b: str) -> Decision | None:
    """Compares the two rows over the seeds that both have finished; None if there is none."""
    rewards: dict[str, dict[int, float]] = {a: {}, b: {}}
    for record in records:
        if record.status == "finished" and record.evaluation is not None:
            rewards[record.row][record.seed] = record.evaluation.reward
    seeds = sorted(rewards[a].keys() & rewards[b])
    if not seeds:
        return None
    x, y = ([rewards[row][seed] for seed in seeds] for row in (a, b))
    difference, p_value = (
        float(statistics.iqm(x) - statistics.iqm(y)),
        statistics.swap_p_value(x, y),
    )
    return Decision(
        records[0].task, a, b, len(seeds), difference, p_value, statistics.decided(x, y)
    )
