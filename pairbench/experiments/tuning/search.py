"""The search: plans a study, proposes and runs its trials, writes the suite of what was found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.experiments.launch import open_launcher
from pairbench.experiments.launch.base import Execution, Launcher
from pairbench.experiments.progress import Monitor
from pairbench.experiments.reading import refuse_mixed
from pairbench.experiments.runner import execute
from pairbench.experiments.settings import validated
from pairbench.experiments.suite import Plan, Row, Suite, expand, load_suite, parse_seeds, select
from pairbench.experiments.tuning.study import (
    Outcome,
    Search,
    Study,
    Terms,
    Trial,
    difference,
    read_study,
)
from pairbench.experiments.tuning.trials import fold, read_records
from pairbench.registry import get_algorithm, get_task, split_task
from pairbench.results.files import atomic_write, refuse_link_out
from pairbench.results.folder import Store
from pairbench.results.layout import TUNING, folder_name
from pairbench.results.load import load_records
from pairbench.results.record import Protocol, RunRecord, RunSpec, Tuning
from pairbench.seeding import TUNING_SEEDS, derive, generator
from pairbench.space import Choice, Range, Setting, Space, check_space

DRAWN = 10
"""Trials before the estimator has its say: the row as it stands, and settings drawn at random."""


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
    scope = _scope(suite, algorithms, task, budget, protocol, list(overrides))
    chosen = _tuning_seeds(seeds)
    name = study or folder_name(task)
    if not re.fullmatch(r"\w[\w.@+-]*", name):
        raise PairBenchError(f"a study cannot be named {name!r}: use letters, digits and . @ + -")
    folder = Path(results) / TUNING / name
    refuse_link_out(Path(results), folder)
    monitor = monitor or Monitor()
    launcher = launcher or open_launcher(sized)
    try:
        with Store(folder).lock():
            work = _Work(scope, folder, chosen, sampler_seed, trials)
            for problem in work.recover():
                monitor.note(problem)
            while runs := work.next():
                ended = execute(runs, work.runs, launcher, sized, monitor, close=False)
                work.note(ended.records)
            outcome = work.finish()
            fold(folder, work.runs.root)
            return outcome
    finally:
        launcher.close()


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
class _Scope:
    """What is to be tuned.

    Attributes:
        suite: all rows, on one task, with the protocol of the board that is to be.
        terms: the protocol of the trials.
        rows: those to be tuned, by name, with their specification as they stand.
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


def _scope(
    suite: str | Suite | None,
    algorithms: Sequence[str],
    task: str,
    budget: Mapping[str, float] | None,
    protocol: Mapping[str, Any] | None,
    overrides: list[str],
) -> _Scope:
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
        Protocol, {**suite.protocol.given, "evaluations": 1, "probes": 0, **changes}, "the protocol"
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
    scope = _Scope(suite, trial_terms, task, overrides, {}, {}, {})
    _, variant = split_task(task)
    like, _ = (variant and task_class.variant(variant)) or ("", {})
    for row in suite.rows:
        algorithm = get_algorithm(row.algorithm)
        space = algorithm.space(task_class.kind, like)
        reason: str | None = algorithm.untuned
        if not (reason or space):
            reason = f"it declares no search space for {task_class.kind} tasks"
        if not reason:
            planned = scope.specs(row, TUNING_SEEDS[:1])
            reason = planned.skipped[0].reason if planned.skipped else None
        if not reason:
            (first,) = planned.specs
            check_space(algorithm, space, first.algorithm_config)
            scope.rows[row.name] = row, first
            scope.spaces[row.name] = space
        elif named or issubclass(algorithm, Floor):
            scope.left_out[row.name] = reason
        else:
            raise PairBenchError(
                f"{row.algorithm} cannot be tuned on {task}: {reason}; leave it out of --algorithms"
            )
    if not scope.rows:
        raise PairBenchError(f"nothing on {task} is left to tune: name an algorithm with a space")
    return scope


class _Work:
    """A study under way, in its folder."""

    def __init__(
        self, scope: _Scope, folder: Path, seeds: tuple[int, ...], sampler: int, trials: int
    ) -> None:
        self.scope, self.folder, self.trials = scope, folder, trials
        self.runs = Store(folder / "runs")
        first = next(iter(scope.rows.values()))[1]
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
                    space={key: _as_json(values) for key, values in scope.spaces[name].items()},
                )
                for name, (_, spec) in scope.rows.items()
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
        other = difference(there, asked)
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
            space, seeds = self.scope.spaces[name], set(asked.terms.seeds)
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
        """Takes down the runs that ended before a kill; returns what cannot be read.

        Raises:
            PairBenchError: runs of the study had other code or data than are within reach now.
        """
        kept, problems = read_records(self.folder), list[str]()
        if self.runs.root.is_dir():
            records, problems = load_records(self.runs.root)
            kept += records
        refuse_mixed((record for record in kept if record.status == "finished"), self.folder)
        self.note(kept)
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
        scope = self.scope
        settings = propose(
            scope.spaces[name], search.trials, search.config, name, self.study.terms.sampler
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
        row, trial = self.scope.rows[name][0], self.study.rows[name].trials[number]
        tried = row.model_copy(
            update={
                "name": f"{name}, trial {number}",
                "settings": {**row.settings, **trial.settings},
                "tuning": None,
            }
        )
        planned = self.scope.specs(tried, self.study.terms.seeds)
        if planned.skipped:
            raise PairBenchError(str(planned.skipped[0].reason))
        return [s for s in planned.specs if s.seed not in trial.rewards | trial.failures]

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
        scope, rows = self.scope, []
        for row in scope.suite.rows:
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
            return Outcome(self.study, None, None, scope.left_out)
        stem = f"tuned-{folder_name(scope.task)}"
        suite = scope.suite.model_copy(
            update={
                "name": stem,
                "summary": f"{scope.task} with settings of {self.trials} trials for each row",
                "rows": tuple(rows),
            }
        )
        path = self.folder / f"{stem}.toml"
        _write(path, as_toml(suite))
        return Outcome(self.study, suite, path, scope.left_out)


def _write(path: Path, text: str) -> None:
    try:
        atomic_write(path, text.encode())
    except OSError as error:
        raise PairBenchError(
            f"{path} cannot be written ({error.strerror or error}): every run that ended is kept; "
            "make room, or give another --results folder, and call again"
        ) from error


def as_toml(suite: Suite) -> str:
    """Returns a suite as the TOML file that `load_suite` reads."""
    import tomli_w

    tree = suite.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    protocols = [(tree, suite.protocol)]
    protocols += [
        (tree["terms"][task], p) for task, own in suite.terms.items() if (p := own.protocol)
    ]
    for part, protocol in protocols:  # what was said is said again, be it the usual
        if "adam_eps" in protocol.given:
            part["protocol"]["adam_eps"] = protocol.adam_eps
    for row in tree["rows"]:
        for key in [key for key in ("seeds", "settings") if not row[key]]:
            del row[key]
    return "# Written by `pairbench tune`.\n" + tomli_w.dumps(tree)


def _as_json(values: Range | Choice) -> dict[str, Any]:
    if isinstance(values, Choice):
        return {"options": list(values.options)}
    return dict(vars(values))


def propose(
    space: Space, trials: Sequence[Trial], start: Mapping[str, Any], name: str, sampler: int
) -> dict[str, Setting]:
    """Returns the settings of the trial after `trials`.

    Args:
        trials: those before, whose outcome counts from number `DRAWN` on.
        start: the settings of trial 0, and perhaps others.
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
    from optuna import distributions

    if isinstance(values, Choice):
        return distributions.CategoricalDistribution(values.options)
    if values.whole:
        return distributions.IntDistribution(int(values.low), int(values.high))
    return distributions.FloatDistribution(values.low, values.high, log=values.log)
