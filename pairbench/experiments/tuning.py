"""Fair tuning: as many trials for every row, on seeds and contexts that no board reports.

A trial is a choice of settings from the space that a method declares (`Method.spaces`), run with
every tuning seed under one protocol and evaluated on the task's validation contexts; its value is
the mean reward over the seeds. Trial 0 is the row as it stands, so that the best trial is never
below it on those seeds. The next ones, up to `DRAWN`, are drawn at random; the others are proposed
by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) from all before them. Trial k
depends on the sampler's seed, the row, k and the trials before it, and on nothing else: a study
that is killed goes on as it would have, and one that is asked for more trials keeps those it has.

    <results>/tuning/<study>/study.json    terms and trials
    <results>/tuning/<study>/runs/         a results folder with a record for each run of a trial
    <results>/tuning/<study>/tuned-<task>.toml
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from tabulate import tabulate

from pairbench.errors import PairBenchError
from pairbench.experiments.launch.backends import open_launcher
from pairbench.experiments.launch.base import Event, Execution, Job, Launcher
from pairbench.experiments.progress import Monitor, Quiet
from pairbench.experiments.runner import execute
from pairbench.experiments.settings import validated
from pairbench.experiments.suite import (
    Plan,
    Row,
    Suite,
    expand,
    load_suite,
    parse_seeds,
    select,
)
from pairbench.registry import get_algorithm, get_task, split_task
from pairbench.results.files import atomic_write, read_untrusted, strict_json
from pairbench.results.folder import Store
from pairbench.results.layout import TUNING, folder_name
from pairbench.results.load import load_records
from pairbench.results.record import Protocol, RunRecord, RunSpec, Strict, Tuning, digest
from pairbench.seeding import TUNING_SEEDS, derive, generator
from pairbench.space import Choice, Range, Setting, Space, check_space
from pairbench.text import number, printable

DRAWN = 10
"""Trials before the estimator has its say: the row as it stands, and settings drawn at random."""

SCHEMA_VERSION = 1


class Terms(Strict):
    """What all trials of a study share; a study of other terms is another study."""

    task: str
    task_version: str
    task_config: dict[str, Any]
    protocol: Protocol
    seeds: tuple[int, ...]
    sampler: int


class Trial(BaseModel):
    """Settings, and what became of their runs, by seed.

    Attributes:
        settings: of the row's space, by name.
        runs: identities.
        rewards: of the runs that finished.
        failures: why the others did not.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    settings: dict[str, Setting]
    runs: dict[int, str] = {}
    rewards: dict[int, float] = {}
    failures: dict[int, str] = {}

    def done(self, seeds: Sequence[int]) -> bool:
        """Whether every seed's run has ended."""
        return all(seed in self.rewards or seed in self.failures for seed in seeds)

    def note(self, record: RunRecord) -> None:
        """Takes down how a run ended; one without a finite reward has failed."""
        reward = record.evaluation.reward if record.evaluation is not None else math.nan
        if record.status == "finished" and math.isfinite(reward):
            self.rewards[record.seed] = reward
        else:
            self.failures[record.seed] = record.reason or "its reward is not finite"

    @property
    def value(self) -> float | None:
        """Mean reward over the seeds; None if a run failed: the others' mean would flatter it."""
        if self.failures or not self.rewards:
            return None
        return sum(self.rewards.values()) / len(self.rewards)

    @property
    def error(self) -> float | None:
        """Standard error of the value over the seeds; None with one seed or without a value."""
        value, count = self.value, len(self.rewards)
        if value is None or count < 2:
            return None
        spread = sum((reward - value) ** 2 for reward in self.rewards.values())
        return math.sqrt(spread / (count - 1) / count)


class Search(BaseModel):
    """One row's part of a study.

    Attributes:
        algorithm: its registered name.
        config: the row's settings as they stand, resolved.
        space: what is searched, as JSON types.
        trials: in their order.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    algorithm: str
    config: dict[str, Any]
    space: dict[str, dict[str, Any]]
    trials: list[Trial] = []

    @property
    def best(self) -> Trial | None:
        """The trial of the highest value, the first of equals; None if all failed."""
        having = [trial for trial in self.trials if trial.value is not None]
        return max(having, key=lambda trial: trial.value or 0.0, default=None)

    @property
    def failed(self) -> int:
        """Trials without a value."""
        return sum(trial.value is None for trial in self.trials)


class Study(BaseModel):
    """A search for the settings of several rows on one task, as it is kept."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    terms: Terms
    rows: dict[str, Search] = {}

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the study: its terms, what was tried and what came of it."""
        return digest(self.model_dump(mode="json"))


def read_study(path: Path) -> Study:
    """Returns the study in a file.

    Raises:
        FileNotFoundError: there is no such file.
        PairBenchError: it is no study, or no ordinary file.
    """
    try:
        return Study.model_validate(strict_json(read_untrusted(path)))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise PairBenchError(
            f"{path} cannot be read as a study: move it away, or take another --study"
        ) from error


@dataclass(frozen=True)
class Outcome:
    """A study that has come to its end.

    Attributes:
        study: its terms and trials.
        suite: the suite of the rows with the settings chosen.
        path: of that suite's file; None where no row has a finished trial.
        left_out: why rows of the suite asked for were not tuned, by name.
    """

    study: Study
    suite: Suite | None
    path: Path | None
    left_out: Mapping[str, str]


def tune(
    suite: str | Suite | None = None,
    *,
    task: str,
    trials: int,
    algorithms: Sequence[str] = (),
    seeds: str | Sequence[int] = (TUNING_SEEDS[0], TUNING_SEEDS[1]),
    budget: Mapping[str, float] | None = None,
    protocol: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    sampler_seed: int = 0,
    study: str | None = None,
    results: Path | str = "results",
    monitor: Monitor | None = None,
    launcher: Launcher | None = None,
    execution: Execution | None = None,
    **how: Any,
) -> Outcome:
    """Searches settings for each row with the same number of trials, and writes the tuned suite.

    Trials that are in the results folder already are not run again, failed ones included.

    Args:
        suite: name, path or `Suite` whose rows on the task are tuned; without one, `algorithms`
            and `budget` say all. Rows that have no space, or that the task does not take, go along
            as they are.
        task: the task (or task@variant).
        trials: of each row, the row as it stands being the first.
        algorithms: names; of a suite, its rows (by row or algorithm name) to keep.
        seeds: of each trial, among `TUNING_SEEDS`.
        budget: limits of a run, by name; replaces the suite's for the trials alone.
        protocol: other settings of the trials' protocol to replace.
        overrides: "task.key=value" texts, settings of the task.
        sampler_seed: of what is drawn and proposed.
        study: name of the study's folder; the task's by default.
        results: the results folder.
        monitor: whoever shows how it goes.
        launcher: where runs happen; the execution's own by default.
        execution: how many runs at a time, and what each is given.
        how: fields of an `Execution`, as workers=4, in place of `execution`.

    Raises:
        PairBenchError: something asked for is wrong, the study's folder holds one of other terms,
            or it is in use or cannot be written.
    """
    _need_optuna()
    if trials < 1:
        raise PairBenchError(f"trials = {trials} is out of range: it must be at least 1")
    sized = (execution or Execution(**how)).sized(1)
    plan = _plan(suite, algorithms, task, budget, protocol, list(overrides))
    chosen = _tuning_seeds(seeds)
    name = study or folder_name(task)
    if not re.fullmatch(r"\w[\w.@+-]*", name):
        raise PairBenchError(f"a study cannot be named {name!r}: use letters, digits and . @ + -")
    folder = Path(results) / TUNING / name
    monitor = monitor or Quiet()
    launcher = launcher or open_launcher(sized)
    try:
        with Store(folder).lock():
            work = _Work(plan, folder, chosen, sampler_seed, trials)
            for problem in work.recover():
                monitor.note(problem)
            while runs := work.next():
                work.note(execute(runs, work.store, _Kept(launcher), sized, monitor).records)
            return work.finish()
    finally:
        launcher.close()


def propose(
    space: Space, trials: Sequence[Trial], start: Mapping[str, Any], name: str, sampler: int
) -> dict[str, Setting]:
    """Returns the settings of the trial after `trials`.

    Args:
        space: what is searched.
        trials: those before, whose outcome counts from number `DRAWN` on.
        start: the settings of trial 0, and perhaps others.
        name: of the row.
        sampler: the sampler's seed.
    """
    number = len(trials)
    if number == 0:
        return {key: start[key] for key in space}
    stream = f"tuning/{name}/{number}"
    if number < DRAWN:
        source = generator(sampler, stream)
        return {key: values.draw(source) for key, values in space.items()}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(values) for key, values in space.items()}
    parzen = optuna.samplers.TPESampler(n_startup_trials=1, seed=derive(sampler, stream) % 2**32)
    study = optuna.create_study(direction="maximize", sampler=parzen)
    having = [trial.value for trial in trials if trial.value is not None]
    worst = min(having, default=0.0)  # what failed is to the estimator as bad as anything seen
    for trial in trials:
        value = worst if trial.value is None else trial.value
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.settings, distributions=distributions, value=value
            )
        )
    found = study.ask(distributions).params
    return {
        key: values.rounded(found[key]) if isinstance(values, Range) else found[key]
        for key, values in space.items()
    }


def _distribution(values: Range | Choice) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(values, Choice):
        return CategoricalDistribution(values.options)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high))
    return FloatDistribution(values.low, values.high, log=values.log)


def _need_optuna() -> None:
    try:
        import optuna  # noqa: F401 (whether it is there)
        import tomli_w  # noqa: F401 (likewise)
    except ModuleNotFoundError as error:
        raise PairBenchError(
            f"tuning needs Optuna ({error}): pip install 'pairbench[tune]'"
        ) from error


def _tuning_seeds(seeds: str | Sequence[int]) -> tuple[int, ...]:
    chosen = parse_seeds(seeds) if isinstance(seeds, str) else tuple(dict.fromkeys(seeds))
    if not chosen:
        raise PairBenchError("no seeds were given: name at least one, as in 1000-1001")
    for seed in chosen:
        if seed not in TUNING_SEEDS:
            raise PairBenchError(
                f"seed {seed} may be on a board, and settings chosen on it would flatter it there: "
                f"tune on seeds from {TUNING_SEEDS[0]} to {TUNING_SEEDS[-1]}"
            )
    return chosen


@dataclass(frozen=True)
class _Plan:
    """What is to be tuned.

    Attributes:
        suite: all rows, on one task, with the protocol of the board that is to be.
        terms: the protocol of the trials.
        task: its name.
        overrides: settings of the task.
        rows: those to be tuned, by name, with their specification as they stand.
        spaces: theirs.
        left_out: why the others are not.
    """

    suite: Suite
    terms: Protocol
    task: str
    overrides: list[str]
    rows: dict[str, tuple[Row, RunSpec]]
    spaces: dict[str, Space]
    left_out: dict[str, str]

    def specs(self, row: Row, seeds: Sequence[int]) -> Plan:
        """Returns the runs of a row under the terms of the trials."""
        alone = self.suite.model_copy(update={"protocol": self.terms, "rows": (row,)})
        return expand(alone, [f"{self.task}.held_out=validation", *self.overrides], seeds)


def _plan(
    suite: str | Suite | None,
    algorithms: Sequence[str],
    task: str,
    budget: Mapping[str, float] | None,
    protocol: Mapping[str, Any] | None,
    overrides: list[str],
) -> _Plan:
    """Resolves what was asked for; see `tune`."""
    if isinstance(suite, str):
        suite = load_suite(suite)
    named = suite is not None
    changes = dict(protocol or {})
    if budget:
        changes["budget"] = dict(budget)
    if suite is None:
        if not algorithms or not budget:
            raise PairBenchError(
                "without a suite, tuning needs algorithms and a budget: name a suite, or give "
                "--algorithms and a --budget-... option"
            )
        terms = validated(Protocol, changes, "the protocol")
        rows = tuple(Row(name=name, algorithm=name, tasks=(task,)) for name in algorithms)
        suite = Suite(name="tuned", protocol=terms, rows=rows, seeds=(0, 1, 2, 3, 4))
    else:
        suite = select(suite, algorithms, [task])
    # points of the curve and probes change nothing that is chosen by, and cost time
    trial_terms = validated(
        Protocol,
        {**dict(suite.protocol), "evaluations": 1, "probes": 0, **changes},
        "the protocol",
    )
    for text in overrides:
        if text.partition("=")[0].strip().rpartition(".")[0] not in (task, split_task(task)[0]):
            raise PairBenchError(
                f"--set {text!r} is not of the task {task}: the settings of a row that are not "
                "searched belong into the suite that names it"
            )
    from pairbench.algorithm import Floor  # loads torch

    task_class = get_task(task)
    if "held_out" not in task_class.Config.model_fields:
        raise PairBenchError(
            f"{task} cannot be tuned on: it holds no validation contexts out, and settings chosen "
            "on the boards' contexts would flatter their row (see TunableConfig)"
        )
    plan = _Plan(suite, trial_terms, task, overrides, {}, {}, {})
    _, variant = split_task(task)
    like, _ = (variant and task_class.variant(variant)) or ("", {})
    for row in suite.rows:
        algorithm = get_algorithm(row.algorithm)
        space = algorithm.space(task_class.kind, like)
        reason: str | None = algorithm.untuned
        if not (reason or space):
            reason = f"it declares no search space for {task_class.kind} tasks"
        if not reason:
            grid = plan.specs(row, TUNING_SEEDS[:1])
            reason = grid.skipped[0].reason if grid.skipped else None
        if not reason:
            (first,) = grid.specs
            check_space(algorithm, space, first.algorithm_config)
            plan.rows[row.name] = row, first
            plan.spaces[row.name] = space
        elif named or issubclass(algorithm, Floor):
            plan.left_out[row.name] = reason
        else:
            raise PairBenchError(
                f"{row.algorithm} cannot be tuned on {task}: {reason}; leave it out of --algorithms"
            )
    if not plan.rows:
        raise PairBenchError(f"nothing on {task} is left to tune: name an algorithm with a space")
    return plan


class _Work:
    """A study under way, in its folder."""

    def __init__(
        self, plan: _Plan, folder: Path, seeds: tuple[int, ...], sampler: int, trials: int
    ) -> None:
        self.plan, self.folder, self.trials = plan, folder, trials
        self.store = Store(folder / "runs")
        first = next(iter(plan.rows.values()))[1]
        asked = Study(
            terms=Terms(
                **first.model_dump(include={"task", "task_version", "task_config", "protocol"}),
                seeds=seeds,
                sampler=sampler,
            ),
            rows={
                name: Search(
                    algorithm=spec.algorithm,
                    config=spec.algorithm_config,
                    space={key: _as_json(values) for key, values in plan.spaces[name].items()},
                )
                for name, (_, spec) in plan.rows.items()
            },
        )
        self.study = self._opened(asked)
        self.save()

    @property
    def path(self) -> Path:
        """The study's file."""
        return self.folder / "study.json"

    def _opened(self, asked: Study) -> Study:
        """Returns the study that is there, extended to what is asked for, or a new one."""
        try:
            there = read_study(self.path)
        except FileNotFoundError:
            return asked
        other = _difference(there, asked)
        if other is None:
            longest = max(len(search.trials) for search in there.rows.values())
            if longest > self.trials:
                other = f"{longest} trials of a row, not {self.trials}"
        if other is not None:
            raise PairBenchError(
                f"{self.folder} holds a study of other settings ({other}): give it those again, or "
                "another name with --study"
            )
        for name, search in there.rows.items():
            space, seeds = self.plan.spaces[name], set(asked.terms.seeds)
            for k, trial in enumerate(search.trials):
                inside = trial.settings.keys() == space.keys() and all(
                    value in space[key] for key, value in trial.settings.items()
                )
                if not inside or not (trial.rewards.keys() | trial.failures.keys()) <= seeds:
                    raise PairBenchError(
                        f"{self.path}: trial {k} of {name} has settings outside its space or "
                        "other seeds: move the study away, or take another --study"
                    )
            asked.rows[name].trials = search.trials
        return asked

    def save(self) -> None:
        """Writes the study."""
        tree = self.study.model_dump(mode="json")
        _write(self.path, json.dumps(tree, indent=1, allow_nan=False) + "\n")

    def recover(self) -> list[str]:
        """Takes down the runs that ended before a kill; returns what cannot be read."""
        if not self.store.root.is_dir():
            return []
        records, problems = load_records(self.store.root)
        self.note(records)
        return problems

    def next(self) -> Plan | None:
        """Returns the runs that can be made now, None at the end.

        Trials that do not wait for others' outcome are added together, so that workers have work.
        """
        seeds = self.study.terms.seeds
        while True:
            specs: dict[str, RunSpec] = {}
            added = False
            for name, search in self.study.rows.items():
                while len(search.trials) < self.trials and (
                    len(search.trials) < DRAWN or all(trial.done(seeds) for trial in search.trials)
                ):
                    self._add(name, search)
                    added = True
                for k, trial in enumerate(search.trials):
                    if not trial.done(seeds):
                        specs |= {spec.identity: spec for spec in self._specs(name, k)}
            if added:
                self.save()
            if specs or not added:
                return Plan(list(specs.values())) if specs else None

    def _add(self, name: str, search: Search) -> None:
        """Adds a row's next trial; settings that are none of the algorithm's fail at once."""
        plan = self.plan
        settings = propose(
            plan.spaces[name], search.trials, search.config, name, self.study.terms.sampler
        )
        search.trials.append(Trial(settings=settings))
        try:
            specs = self._specs(name, len(search.trials) - 1)
        except PairBenchError as error:
            search.trials[-1].failures = dict.fromkeys(self.study.terms.seeds, str(error))
        else:
            search.trials[-1].runs = {spec.seed: spec.identity for spec in specs}

    def _specs(self, name: str, number: int) -> list[RunSpec]:
        """Returns the runs of a trial that have not ended.

        Raises:
            PairBenchError: its settings are none that the algorithm takes, or the task skips them.
        """
        row, trial = self.plan.rows[name][0], self.study.rows[name].trials[number]
        tried = row.model_copy(
            update={
                "name": f"{name}, trial {number}",
                "settings": {**row.settings, **trial.settings},
                "tuning": None,
            }
        )
        grid = self.plan.specs(tried, self.study.terms.seeds)
        if grid.skipped:
            raise PairBenchError(str(grid.skipped[0].reason))
        return [s for s in grid.specs if s.seed not in trial.rewards | trial.failures]

    def note(self, records: Iterable[RunRecord]) -> None:
        """Takes down how runs ended, in every trial that they belong to, and saves."""
        ended = {record.identity: record for record in records}
        for search in self.study.rows.values():
            for trial in search.trials:
                for seed, identity in trial.runs.items():
                    if seed not in trial.rewards | trial.failures and identity in ended:
                        trial.note(ended[identity])
        self.save()

    def finish(self) -> Outcome:
        """Writes the suite of the settings chosen."""
        plan, rows = self.plan, []
        for row in plan.suite.rows:
            search = self.study.rows.get(row.name)
            if search is None:
                rows.append(row)
            elif search.best is not None:
                before = row.tuning.trials if row.tuning else 0
                rows.append(
                    row.model_copy(
                        update={
                            "name": f"{row.name}+tuned",
                            "settings": {**row.settings, **search.best.settings},
                            "tuning": Tuning(trials=before + self.trials, study=self.study.sha256),
                        }
                    )
                )
        if not any(row.tuning for row in rows):
            return Outcome(self.study, None, None, plan.left_out)
        stem = f"tuned-{folder_name(plan.task)}"
        suite = plan.suite.model_copy(
            update={
                "name": stem,
                "summary": f"{plan.task} with settings of {self.trials} trials for each row",
                "rows": tuple(rows),
            }
        )
        path = self.folder / f"{stem}.toml"
        _write(path, as_toml(suite))
        return Outcome(self.study, suite, path, plan.left_out)


def _write(path: Path, text: str) -> None:
    try:
        atomic_write(path, text.encode())
    except OSError as error:
        raise PairBenchError(
            f"{path} cannot be written ({error.strerror or error}): every run that ended is kept; "
            "make room, or give another --results folder, and call again"
        ) from error


def as_object(outcome: Outcome) -> dict[str, Any]:
    """Returns an outcome as JSON types."""
    study = outcome.study
    return {
        "task": study.terms.task,
        "seeds": list(study.terms.seeds),
        "study": study.sha256,
        "suite": None if outcome.path is None else str(outcome.path),
        "rows": [
            {
                "row": name,
                "algorithm": search.algorithm,
                "trials": len(search.trials),
                "failed": search.failed,
                "preset": _told(search.trials[0]),
                "best": None if search.best is None else _told(search.best),
                "best_trial": None if search.best is None else search.trials.index(search.best),
            }
            for name, search in study.rows.items()
        ],
        "left_out": dict(outcome.left_out),
    }


def _told(trial: Trial) -> dict[str, Any]:
    return {"value": trial.value, "error": trial.error, "settings": trial.settings}


def render(outcome: Outcome) -> str:
    """Returns an outcome as a table, with what must be known beside it."""
    study = outcome.study
    lines = []
    for name, search in study.rows.items():
        start, best = search.trials[0], search.best
        found = []
        for key, value in best.settings.items() if best is not None else ():
            before = start.settings[key]
            found.append(f"{key} {value}" if value == before else f"{key} {value} ({before})")
        count = len(search.trials)
        at = "" if best is None else str(search.trials.index(best))
        lines.append(
            [
                printable(name), str(count), str(search.failed), _value(start), _value(best), at,
                ", ".join(found),
            ]
        )  # fmt: skip
    table = tabulate(
        lines,
        headers=["row", "trials", "failed", "as it stands", "best", "trial", "settings (before)"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "right", "right", "left"),
    )
    seeds = study.terms.seeds
    if len(seeds) == 1:
        over = f"Reward on validation contexts with the tuning seed {seeds[0]}"
    else:
        listed = ", ".join(map(str, seeds))
        over = (
            f"Mean reward on validation contexts over the tuning seeds {listed}, ± its standard "
            "error over them"
        )
    notes = [
        f"{over}; trial 0 is the row as it stands. The best of several trials is flattered by "
        "chance: what its settings are worth, other seeds and contexts say."
    ]
    for name, search in study.rows.items():
        for k, trial in enumerate(search.trials):
            for seed, reason in trial.failures.items():
                notes.append(f"FAILED {name}, trial {k}, seed {seed}: {reason}")
        if search.best is None:
            notes.append(f"{name} has no finished trial: it is not in the suite")
    notes += [f"{name} was not tuned: {reason}" for name, reason in outcome.left_out.items()]
    return "\n".join([table, "", *map(printable, notes)]) + "\n"


def next_command(outcome: Outcome, overrides: Iterable[str], results: Path | str) -> str:
    """Returns the command that runs the suite found, on the task as it was tuned on."""
    settings = "".join(f" --set {shlex.quote(text)}" for text in overrides)
    return f"pairbench run {shlex.quote(str(outcome.path))}{settings} --results {results}"


def _value(trial: Trial | None) -> str:
    if trial is None or trial.value is None:
        return "failed"
    error = trial.error
    return number(trial.value) + ("" if error is None else f" ± {number(error)}")


def as_toml(suite: Suite) -> str:
    """Returns a suite as the TOML file that `load_suite` reads."""
    import tomli_w

    tree = suite.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    for row in tree["rows"]:
        for key in [key for key in ("seeds", "settings") if not row[key]]:
            del row[key]
    return "# Written by `pairbench tune`.\n" + tomli_w.dumps(tree)


def _as_json(values: Range | Choice) -> dict[str, Any]:
    if isinstance(values, Choice):
        return {"options": list(values.options)}
    return dict(vars(values))


def _difference(there: Study, asked: Study) -> str | None:
    """Returns the first way in which a study is not the one asked for, or None.

    More rows than there were is no difference: they are brought to the same number of trials.
    """
    old, new = (study.terms.model_dump(mode="json") for study in (there, asked))
    for key in old:
        if old[key] != new[key]:
            return f"{key} {_short(old[key])}, not {_short(new[key])}"
    for name, search in there.rows.items():
        mine = asked.rows.get(name)
        if mine is None:
            return f"row {name}, which is not asked for now"
        for key in ("algorithm", "config", "space"):
            if getattr(search, key) != getattr(mine, key):
                return f"another {key} of {name}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Kept:
    """A launcher whose workers outlive one grid: whoever made it closes it."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def submit(self, job: Job) -> None:
        self._launcher.submit(job)

    def poll(self, timeout: float) -> list[Event]:
        return self._launcher.poll(timeout)

    def close(self) -> None:
        """Leaves the launcher open."""
