"""From names to runs: a suite, or what was asked on the command line, as resolved `RunSpec`s.

Settings of a run, each layer replacing the one before: the algorithm's `Config` defaults, its
preset for the task's kind, its preset for that kind and variant, the row of the suite, `--set`.
Everything is resolved and checked before the first run starts.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pairbench.errors import PairBenchError
from pairbench.registry import entries, get_algorithm, get_task, split_task
from pairbench.results.files import read_untrusted
from pairbench.results.record import Protocol, RunRecord, RunSpec, Tuning
from pairbench.seeding import TUNING_SEEDS
from pairbench.text import did_you_mean

M = TypeVar("M", bound=BaseModel)


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
    tuple[int, ...], BeforeValidator(lambda v: parse_seeds(v) if isinstance(v, str) else v)
]
"""Seeds of a suite file: a text as `parse_seeds` reads it, or a list of numbers."""


class Row(BaseModel):
    """A row of a suite: an algorithm with a named set of settings, on some tasks and seeds.

    Attributes:
        name: as boards show it.
        algorithm: the registered name.
        tasks: tasks it runs on, with their variants.
        seeds: its own, in place of the suite's.
        settings: what replaces the algorithm's presets.
        tuning: what `pairbench tune` writes beside the settings it has chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    algorithm: str
    tasks: tuple[str, ...] = Field(min_length=1)
    seeds: Seeds = ()
    settings: dict[str, Any] = {}
    tuning: Tuning | None = None


class Terms(BaseModel):
    """What a suite asks of the runs on one task, in place of what it asks of all.

    Attributes:
        protocol: in place of the suite's.
        seeds: in place of the suite's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol | None = None
    seeds: Seeds = ()


class Suite(BaseModel):
    """A named grid. A row's own seeds go before those of its task.

    Attributes:
        name: of the file.
        summary: one line for the list of suites.
        protocol: what all runs share.
        seeds: of every row.
        terms: by task, what is asked there instead.
        rows: what is compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    protocol: Protocol
    seeds: Annotated[Seeds, Field(min_length=1)] = (0,)
    terms: dict[str, Terms] = {}
    rows: tuple[Row, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Grid:
    """What a suite comes to: the runs, seed by seed, and a record for each row a task skips."""

    specs: list[RunSpec]
    skipped: list[RunRecord] = field(default_factory=list)


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
        text = (
            files("pairbench.experiments.suites")
            .joinpath(f"{name}.toml")
            .read_text(encoding="utf-8")
        )
    elif name.endswith(".toml") or "/" in name:
        try:
            text = read_untrusted(Path(name)).decode()
        except (OSError, ValueError) as error:
            raise PairBenchError(f"suite file {name} cannot be read: {error}") from error
    else:
        raise PairBenchError(f"there is no suite {name!r}{did_you_mean(name, known)}")
    try:
        data = {"name": Path(name).stem, **tomllib.loads(text)}
    except (ValueError, RecursionError) as error:
        raise PairBenchError(f"suite {name} is not valid TOML: {error}") from error
    return validated(Suite, data, f"suite {name}")


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
            base = split_task(task)[0]
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
        return validated(Protocol, {**dict(protocol), **changes}, "the protocol")

    terms = {
        task: own.model_copy(update={"protocol": own.protocol and changed(own.protocol)})
        for task, own in suite.terms.items()
    }
    return suite.model_copy(update={"protocol": changed(suite.protocol), "terms": terms})


def expand(suite: Suite, overrides: Iterable[str] = (), seeds: Sequence[int] | None = None) -> Grid:
    """Returns every run of a suite, fully resolved, the first seed of all rows first.

    Args:
        suite: the grid.
        overrides: "target.key=value" texts, the target an algorithm, a row or a task.
        seeds: replaces the seeds of all rows.

    Raises:
        PairBenchError: a name, key or value is wrong.
    """
    check_names(suite)
    changes = _overrides(suite, overrides)
    cells: list[tuple[int, RunSpec]] = []
    skipped = []
    if seeds is not None and not len(seeds):
        raise PairBenchError("no seeds were given: name at least one, as in 0-4")
    for row in suite.rows:
        for task in row.tasks:
            terms = suite.terms.get(task, Terms())
            chosen = seeds if seeds is not None else row.seeds or terms.seeds or suite.seeds
            first = _resolve(row, task, terms.protocol or suite.protocol, chosen[0], changes)
            reason = _skip(first)
            if reason is None:
                _check_budget(first)
                _check_seeds(first, chosen)
                cells += [(place, _with_seed(first, seed)) for place, seed in enumerate(chosen)]
            else:
                skipped.append(
                    RunRecord(
                        identity=first.identity,
                        **first.model_dump(),
                        status="skipped",
                        reason=reason,
                    )
                )
    specs: dict[str, RunSpec] = {}
    for _, spec in sorted(cells, key=lambda cell: cell[0]):
        twin = specs.setdefault(spec.identity, spec)
        if twin.row != spec.row:
            raise PairBenchError(
                f"rows {twin.row} and {spec.row} on {spec.task} have the same settings and would "
                "be one run: change or remove one"
            )
    return Grid(list(specs.values()), skipped)


def validated(model: type[M], data: Mapping[str, Any], owner: str) -> M:
    """Returns `model(**data)`, or raises the first thing wrong with it as one sentence.

    Raises:
        PairBenchError: naming the key, the value, what is allowed, and the owner of the key.
    """
    try:
        return model(**data)
    except ValidationError as error:
        raise PairBenchError(_sentence(model, error, owner)) from error


_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _sentence(model: type[BaseModel], error: ValidationError, owner: str) -> str:
    problem = error.errors()[0]
    path = [part for part in problem["loc"] if part != "function-after"]
    key, value = ".".join(map(str, path)), problem.get("input")
    shown = str(value) if isinstance(value, int | float) else repr(value)
    field_ = _field(model, path)
    if problem["type"] == "extra_forbidden":
        known = list(_model(model, path[:-1]).model_fields)
        return f"{owner} has no setting {key!r}{did_you_mean(str(path[-1]), known)}"
    if problem["type"] == "missing":
        return f"{owner} lacks {key!r}: add it"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
        return f"{key} of {owner}: {message}" if key else f"{owner}: {message}"
    bounds = [
        f"{word} {limit:g}"
        for item in (field_.metadata if field_ is not None else ())
        for name, word in _BOUNDS.items()
        if isinstance(limit := getattr(item, name, None), int | float)
    ]
    if problem["type"] in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        allowed = f"it must be {' and '.join(bounds)}" if bounds else _lower(problem["msg"])
        return f"{key} = {shown} of {owner} is out of range: {allowed}"
    return f"{key} = {shown} of {owner} is not allowed: {_lower(problem['msg'])}"


def _model(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The model that the keys of `path` lead to, as far as fields are models or tuples of them."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [annotation, *getattr(annotation, "__args__", ())]
            model = next(
                (a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), model
            )
    return model


def _field(model: type[BaseModel], path: Sequence[int | str]) -> Any:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return None
    return _model(model, path[: path.index(names[-1])]).model_fields.get(names[-1])


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _overrides(suite: Suite, texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reads "target.key=value" into {target: {key: value}}; targets must be in the suite."""
    targets = {name for row in suite.rows for name in (row.name, row.algorithm, *row.tasks)}
    targets |= {split_task(task)[0] for row in suite.rows for task in row.tasks}
    changes: dict[str, dict[str, Any]] = {}
    for text in texts:
        left, equals, right = text.partition("=")
        target, dot, key = left.strip().rpartition(".")
        if not (equals and dot and target and key):
            raise PairBenchError(
                f"--set {text!r} cannot be read: write target.key=value, as in grpo.group_size=8"
            )
        if target not in targets:
            raise PairBenchError(
                f"--set {text!r} names {target!r}, which is no algorithm, row or task of this run"
                f"{did_you_mean(target, targets)}"
            )
        changes.setdefault(target, {})[key] = parse_value(right.strip())
    return changes


def parse_value(text: str) -> Any:
    """Returns the JSON value of `text` (8, 1e-3, true, [1, 2], null), or the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _resolve(
    row: Row, task: str, protocol: Protocol, seed: int, changes: Mapping[str, Mapping[str, Any]]
) -> RunSpec:
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
    task_settings = {
        **variant_settings,
        **changes.get(base, {}),
        **changes.get(task, {}),
    }
    task_config = validated(task_class.Config, task_settings, f"task {task}")
    cell = {
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
    return validated(RunSpec, cell, f"row {row.name} on {task}")


def _with_seed(spec: RunSpec, seed: int) -> RunSpec:
    return validated(RunSpec, {**dict(spec), "seed": seed}, f"row {spec.row} on {spec.task}")


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


def _skip(spec: RunSpec) -> str | None:
    from pairbench.training.engine import get_engine  # loads torch

    algorithm_class, task_class = get_algorithm(spec.algorithm), get_task(spec.task)
    try:
        algorithm = algorithm_class(algorithm_class.Config(**spec.algorithm_config))
        kinds = algorithm.kinds
        if kinds is not None and task_class.kind not in kinds:
            return f"{spec.algorithm} runs on {' and '.join(kinds)} tasks only"
        engine = get_engine(spec.protocol.engine)
        if engine and (reason := engine.refusal(algorithm, task_class.kind)):
            return reason
        return task_class(task_class.Config(**spec.task_config)).skip(algorithm)
    except PairBenchError as error:
        raise PairBenchError(f"row {spec.row} on {spec.task}: {error}") from error
