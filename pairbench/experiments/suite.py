"""From names to runs: a suite, or what was asked on the command line, as resolved `RunSpec`s.

Settings of a run, each layer replacing the one before: the algorithm's `Config` defaults, its
preset for the task's kind, its preset for that kind and variant, the row of the suite, `--set`.
Everything is resolved and checked before the first run starts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from pairbench.errors import PairBenchError
from pairbench.evaluation import Strict
from pairbench.experiments.own import Chosen, resolved
from pairbench.experiments.settings import parse_targeted, validated
from pairbench.places import declare
from pairbench.registry import entries, family_of, get_algorithm, get_task, split_task
from pairbench.results.files import read_untrusted
from pairbench.results.find import find_record
from pairbench.results.load import Records, load_records
from pairbench.results.place import is_place
from pairbench.results.record import Protocol, RunRecord, RunSpec, Tuning, content_digest
from pairbench.results.record_file import refuse_unreadable
from pairbench.seeding import TUNING_SEEDS
from pairbench.text import did_you_mean

if TYPE_CHECKING:
    from pairbench.algorithm import Method
    from pairbench.task import Task

MOST_SEEDS = 100_000


def parse_seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds of "0-4" or "0,2,7" or "0-4,9"."""
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        try:
            some = range(int(low), int(high) + 1) if dash else [int(low)]
        except ValueError:
            some = []
        if len(seeds) + len(some[: MOST_SEEDS + 1]) > MOST_SEEDS:
            raise PairBenchError(f"seeds {text[:80]!r} are more than {MOST_SEEDS}: give fewer")
        seeds += some
        if not some:
            raise PairBenchError(
                f"seeds {text!r} cannot be read: write numbers from 0 up, as in 0-4 or 0,2,7"
            )
    return tuple(dict.fromkeys(seeds))


Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(lambda v: parse_seeds(v) if isinstance(v, str) else v),
]
"""Seeds of a suite file: a text as `parse_seeds` reads it, or a list of numbers."""


class Row(Strict):
    """A row of a suite: an algorithm with a named set of settings, on some tasks and seeds.

    Attributes:
        name: as boards show it.
        algorithm: the registered name.
        tasks: tasks it runs on, with their variants.
        seeds: its own, in place of the suite's.
        settings: what replaces the algorithm's presets.
        tuning: what `pairbench tune` writes beside the settings it has chosen.
    """

    name: str = Field(min_length=1)
    algorithm: str
    tasks: tuple[str, ...] = Field(min_length=1)
    seeds: Seeds = ()
    settings: dict[str, Any] = Field(default={})
    tuning: Tuning | None = None


class TaskTerms(Strict):
    """What a suite asks of the runs on one task, in place of what it asks of all.

    Attributes:
        protocol: in place of the suite's.
        seeds: in place of the suite's.
    """

    protocol: Protocol | None = None
    seeds: Seeds = ()


class Suite(Strict):
    """A named set of rows. A row's own seeds go before those of its task.

    Attributes:
        name: of the file.
        summary: one line for the list of suites.
        protocol: what all runs share.
        seeds: of every row.
        terms: by task, what is asked there instead.
        rows: what is compared.
    """

    name: str
    summary: str = ""
    protocol: Protocol
    seeds: Annotated[Seeds, Field(min_length=1)] = (0,)
    terms: dict[str, TaskTerms] = Field(default={})
    rows: tuple[Row, ...] = Field(min_length=1)


class _Chosen(BaseModel):
    seeds: Seeds


@dataclass(frozen=True)
class Plan:
    """What a suite comes to, resolved and checked.

    Attributes:
        specs: the runs, the first seed of all rows first.
        skipped: a record for each row that a task does not take.
    """

    specs: list[RunSpec]
    skipped: list[RunRecord] = field(default_factory=list)
    _tasks: dict[tuple[str, str], Task] = field(default_factory=dict, repr=False, compare=False)

    def know(self, run: RunSpec, task: Task) -> None:
        """Keeps the task that a run's settings have made."""
        self._tasks[run.task, content_digest(run.task_config)] = task

    def tasks_of(self, runs: Iterable[RunSpec | RunRecord]) -> list[Task]:
        """Returns the tasks of some runs, one for all runs of the same settings."""
        found = {}
        for run in runs:
            key = run.task, content_digest(run.task_config)
            if key not in self._tasks:
                task = get_task(run.task)
                self._tasks[key] = task(task.Config(**run.task_config))
            found[key] = self._tasks[key]
        return list(found.values())


def suite_names() -> list[str]:
    """Returns the names of the suites that come with PairBench."""
    folder = files("pairbench.experiments.suites")
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """Returns the suite called `name`, or the one in the TOML file of that path.

    Raises:
        PairBenchError: there is none, it is no TOML, or a key or value in it is wrong.
    """
    known = suite_names()
    if name in known:
        text = (files("pairbench.experiments.suites") / f"{name}.toml").read_text(encoding="utf-8")
    elif name.endswith(".toml") or "/" in name:
        try:
            text = read_untrusted(Path(name)).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            raise PairBenchError(f"suite file {name} cannot be read: {error}") from error
    else:
        raise PairBenchError(f"there is no suite {name!r}{did_you_mean(name, known)}")
    try:
        data = {"name": Path(name).stem, **tomllib.loads(text)}
    except (ValueError, RecursionError) as error:
        raise PairBenchError(f"suite {name} is not valid TOML: {error}") from error
    return validated(Suite, data, f"suite {name}")


def plan(
    suite: str | Suite | None = None,
    *,
    algorithms: Sequence[str] = (),
    tasks: Sequence[str | Chosen] = (),
    seeds: str | Sequence[int] | None = None,
    budget: Mapping[str, float] | None = None,
    protocol: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
) -> Plan:
    """Returns the runs of a suite, or of algorithms on tasks, resolved and checked.

    Args:
        suite: name, path or `Suite`; without one, `algorithms`, `tasks` and `budget` say all.
        algorithms: of a suite, its rows (by row or algorithm name) to keep.
        tasks: of a suite, the tasks to keep.
        seeds: "0-4" or numbers; replaces the suite's. Without a suite, 0 by default.
        budget: limits by name (steps, labels, gradient_steps, seconds); replaces the suite's.
        protocol: other settings of the protocol to replace (anneal, evaluations, probes, ...).
        overrides: "target.key=value" texts.

    Raises:
        PairBenchError: something in it is wrong.
    """
    if isinstance(suite, str):
        suite = load_suite(suite)
    tasks, overrides = resolved(tasks, overrides)
    changes = dict(protocol or {})
    if budget:
        changes["budget"] = dict(budget)
    if suite is None:
        if not algorithms or not tasks or not budget:
            raise PairBenchError(
                "without a suite, a run needs algorithms, tasks and a budget: "
                "name a suite, or give --algorithms, --tasks and a --budget-... option"
            )
        rows = tuple(Row(name=name, algorithm=name, tasks=tuple(tasks)) for name in algorithms)
        terms = validated(Protocol, changes, "the protocol")
        suite = Suite(name="command line", protocol=terms, rows=rows)
    else:
        suite = select(suite, algorithms, tasks) if algorithms or tasks else suite
        if changes:
            suite = with_protocol(suite, changes)
    chosen = parse_seeds(seeds) if isinstance(seeds, str) else seeds
    return expand(suite, overrides, chosen)


def records_of(name: str, results: Path) -> Records:
    """Returns the records of a folder, of a record file, or of a suite in a results folder.

    Raises:
        PairBenchError: the name is none of these, or the file is no record.
    """
    if is_place(name):
        return load_records(name)
    if name in suite_names() or name.endswith(".toml"):
        wanted = {spec.identity for spec in expand(load_suite(name)).specs}
        records, problems = load_records(results)
        return Records([r for r in records if r.identity in wanted], problems)
    if name.endswith(".json"):
        return Records([find_record(name, results)[0]], [])
    raise PairBenchError(
        f"{name!r} is no record file, results folder or suite: of a row, name its --task"
    )


def check_names(suite: Suite) -> None:
    """Checks that the suite's algorithms and tasks are registered, without importing them.

    Raises:
        PairBenchError: one is not (with the nearest names), two rows share a name on one task, or
            there are terms for a task that no row is on.
    """
    algorithms, tasks = list(entries("algorithm")), list(entries("task"))
    seen = set()
    for row in suite.rows:
        if row.algorithm not in algorithms:
            raise PairBenchError(
                f"there is no algorithm {row.algorithm!r}{did_you_mean(row.algorithm, algorithms)}"
            )
        for task in row.tasks:
            base = family_of(task)
            if base not in tasks:
                raise PairBenchError(f"there is no task {task!r}{did_you_mean(base, tasks)}")
            if (row.name, task) in seen:
                raise PairBenchError(
                    f"suite {suite.name} has two rows named {row.name!r} on {task}: rename one"
                )
            seen.add((row.name, task))
    used = sorted({task for _, task in seen})
    for task in suite.terms:
        if task not in used:
            raise PairBenchError(
                f"suite {suite.name} has terms for {task!r}, which none of its rows is on"
                f"{did_you_mean(task, used)}"
            )


def select(suite: Suite, rows: Sequence[str] = (), tasks: Sequence[str] = ()) -> Suite:
    """Returns the part of a suite with the given rows (or algorithms) and tasks; () keeps all.

    A name that a row has keeps that row alone, and one of an algorithm only, all of its rows.

    Raises:
        PairBenchError: the suite has none of that name, or nothing is left.
    """
    names = sorted({name for row in suite.rows for name in (row.name, row.algorithm)})
    places = sorted({task for row in suite.rows for task in row.tasks})
    for wanted, known, what in ((rows, names, "row or algorithm"), (tasks, places, "task")):
        for name in wanted:
            if name not in known:
                raise PairBenchError(
                    f"suite {suite.name} has no {what} {name!r}{did_you_mean(name, known)}"
                )
    by_algorithm = set(rows) - {row.name for row in suite.rows}
    kept = []
    for row in suite.rows:
        if rows and row.name not in rows and row.algorithm not in by_algorithm:
            continue
        if here := tuple(task for task in row.tasks if not tasks or task in tasks):
            kept.append(row.model_copy(update={"tasks": here}))
    if not kept:
        raise PairBenchError(
            f"suite {suite.name} has no row of {', '.join(rows)} on {', '.join(tasks)}"
        )
    left = {task for row in kept for task in row.tasks}
    terms = {task: terms for task, terms in suite.terms.items() if task in left}
    return suite.model_copy(update={"rows": tuple(kept), "terms": terms})


def with_protocol(suite: Suite, changes: Mapping[str, Any]) -> Suite:
    """Returns the suite with settings of its protocol replaced, on every task.

    Raises:
        PairBenchError: a key or value is wrong.
    """

    def changed(protocol: Protocol) -> Protocol:
        return validated(Protocol, {**protocol.given, **changes}, "the protocol")

    terms = {
        task: own.model_copy(update={"protocol": own.protocol and changed(own.protocol)})
        for task, own in suite.terms.items()
    }
    return suite.model_copy(update={"protocol": changed(suite.protocol), "terms": terms})


def expand(suite: Suite, overrides: Iterable[str] = (), seeds: Sequence[int] | None = None) -> Plan:
    """Returns every run of a suite, fully resolved, the first seed of all rows first.

    Args:
        suite: the rows, tasks and seeds.
        overrides: "target.key=value" texts, the target an algorithm, a row or a task.
        seeds: replaces the seeds of all rows.

    Raises:
        PairBenchError: a name, key or value is wrong.
    """
    check_names(suite)
    changes = _overrides(suite, overrides)
    if seeds is not None:
        seeds = validated(_Chosen, {"seeds": tuple(seeds)}, "the command").seeds
        if not seeds:
            raise PairBenchError("no seeds were given: name at least one, as in 0-4")
    found: list[tuple[int, RunSpec]] = []
    plan = Plan([])
    for row in suite.rows:
        for task in row.tasks:
            terms = suite.terms.get(task, TaskTerms())
            chosen = seeds or row.seeds or terms.seeds or suite.seeds
            first, algorithm, place = _resolve(
                row, task, terms.protocol or suite.protocol, chosen[0], changes
            )
            reason = _skip(first, algorithm, place)
            if reason is None:
                _check_budget(first)
                _check_seeds(first, chosen)
                plan.know(first, place)
                found += [
                    (number, first.model_copy(update={"seed": seed}))
                    for number, seed in enumerate(chosen)
                ]
            else:
                plan.skipped.append(
                    RunRecord(
                        identity=first.identity,
                        **first.model_dump(),
                        status="skipped",
                        reason=reason,
                        step_unit=place.unit,
                        scores_of=place.scores_of,
                    )
                )
    specs: dict[str, RunSpec] = {}
    for _, spec in sorted(found, key=lambda item: item[0]):
        twin = specs.setdefault(spec.identity, spec)
        if twin.row != spec.row:
            raise PairBenchError(
                f"rows {twin.row} and {spec.row} on {spec.task} have the same settings and would "
                "be one run: change or remove one"
            )
    plan.specs.extend(specs.values())
    return plan


def _overrides(suite: Suite, texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reads "target.key=value" into {target: {key: value}}; targets must be in the suite."""
    targets = {name for row in suite.rows for name in (row.name, row.algorithm, *row.tasks)}
    targets |= {split_task(task)[0] for row in suite.rows for task in row.tasks}
    changes: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, key, value = parse_targeted(text)
        if target not in targets:
            raise PairBenchError(
                f"--set {text!r} names {target!r}, which is no algorithm, row or task of this run"
                f"{did_you_mean(target, targets)}"
            )
        changes.setdefault(target, {})[key] = value
    return changes


def _resolve(
    row: Row, task: str, protocol: Protocol, seed: int, changes: Mapping[str, Mapping[str, Any]]
) -> tuple[RunSpec, Method, Task]:
    """The run of a row's first seed, and what its settings make: each is checked here, and once."""
    algorithm_class, task_class = get_algorithm(row.algorithm), get_task(task)
    base, variant = split_task(task)
    presets = algorithm_class.presets
    like, variant_settings = (variant and task_class.variant(variant)) or ("", {})
    settings = {
        **presets.get(task_class.kind, {}),
        **presets.get(f"{task_class.kind}@{like}", {}),
        **row.settings,
        **changes.get(row.algorithm, {}),
        **changes.get(row.name, {}),
    }
    about = row.algorithm if row.name == row.algorithm else f"{row.algorithm} (row {row.name})"
    config = validated(algorithm_class.Config, settings, about)
    task_settings = {**variant_settings, **changes.get(base, {}), **changes.get(task, {})}
    task_config = validated(task_class.Config, task_settings, f"task {task}").by_content()
    if variant and variant not in task_class.variants:
        task = f"{base}@{declare(variant)}"
    if "adam_eps" not in protocol.model_fields_set:
        protocol = protocol.model_copy(update={"adam_eps": task_class.adam_eps})
    fields = {
        "algorithm": row.algorithm,
        "algorithm_config": config.model_dump(mode="json"),
        "task": task,
        "task_version": task_class.version,
        "task_config": task_config.model_dump(mode="json"),
        "protocol": protocol,
        "seed": seed,
        "row": row.name,
        "tuning": row.tuning,
    }
    spec = validated(RunSpec, fields, f"row {row.name} on {task}")
    try:
        refuse_unreadable(spec)
    except ValueError as error:
        raise PairBenchError(f"row {row.name} on {task}: {error}") from error
    try:
        return spec, algorithm_class(config), task_class(task_config)
    except PairBenchError as error:
        raise PairBenchError(f"row {row.name} on {task}: {error}") from error


def _check_seeds(spec: RunSpec, seeds: Sequence[int]) -> None:
    """Refuses seeds of `pairbench tune` where the evaluation's contexts are the boards'."""
    kept = [seed for seed in seeds if seed in TUNING_SEEDS]
    if kept and spec.task_config.get("held_out") != "validation":
        raise PairBenchError(
            f"seed {kept[0]} is for `pairbench tune` alone, as all from {TUNING_SEEDS[0]} to "
            f"{TUNING_SEEDS[-1]} are, so that no board reports what settings were chosen on: "
            "take another"
        )


def _check_budget(spec: RunSpec) -> None:
    from pairbench.algorithm import External  # loads torch
    from pairbench.training.engine import get_engine  # likewise

    algorithm, engine = get_algorithm(spec.algorithm), get_engine(spec.protocol.engine)
    trainer = algorithm if issubclass(algorithm, External) else engine
    limit = trainer.limit if trainer else ""
    if not limit or getattr(spec.protocol.budget, limit):
        return
    option = limit.replace("_", "-")
    raise PairBenchError(
        f"row {spec.row} needs a budget of {limit.replace('_', ' ')}: add --budget-{option}"
    )


def _skip(spec: RunSpec, algorithm: Method, task: Task) -> str | None:
    from pairbench.training.engine import get_engine  # loads torch

    try:
        kinds = algorithm.kinds
        if kinds is not None and task.kind not in kinds:
            return f"{spec.algorithm} runs on {' and '.join(kinds)} tasks only"
        engine = get_engine(spec.protocol.engine)
        if engine and (reason := engine.refusal(algorithm, task.kind)):
            return reason
        return task.refusal(algorithm)
    except PairBenchError as error:
        raise PairBenchError(f"row {spec.row} on {spec.task}: {error}") from error
